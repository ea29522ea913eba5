"""What the upload process does with a run folder from elsewhere: every record, image and checkpoint.

The store is one that only takes what is given to it.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from framework.tracking.cursor import TRACKING_FOLDER, Cursor
from framework.tracking.projection import Projection
from framework.tracking.queues import UploadQueues
from framework.tracking.records import Record
from tests.fuzz.mutation import damaged, json_edited, json_lines_edited
from tests.fuzz.reader import Reader, Target
from tests.fuzz.runs import URI, _run


class _Store(Projection):
    """A projection without a server: what would be sent must be what MLflow's client can send."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def open_run(self, start: Record, *, run_id: str, experiment_id: str) -> tuple[str, str]:
        texts = [start[name] for name in ("uid", "experiment", "run_name", "user", "command")] if not run_id else []
        assert all(isinstance(text, str) for text in texts)
        return "r", "1"

    def log(self, *, metrics: Any, params: Any, tags: Any) -> list[Any]:
        for metric in metrics:
            self.sent.append(f"{metric.key}{float(metric.value)}{int(metric.step)}{int(metric.timestamp)}")
        self.sent += [f"{each.key}{each.value}" for each in (*params, *tags)]
        return []

    def log_file(self, path: Path, *, folder: str) -> None:
        assert path.is_file()
        self.sent.append(f"{path}{folder}")

    def log_dataset(self, record: Record) -> None:
        given = SimpleNamespace(request=lambda function: None)
        Projection.log_dataset(given, record)  # type: ignore[arg-type]

    def request(self, function: Any) -> Any:
        return "m"

    def show_images(self) -> None:
        pass

    def reopen(self) -> None:
        pass

    def end(self, *, status: str, time_ms: int, clean: bool, uid: str) -> None:
        self.sent.append(f"{status}{int(time_ms)}{uid}")


class _Lanes(UploadQueues):
    def _make_durable(self) -> None:
        """Takes a disk's time, and thousands of cases need not survive a power cut."""


def _all(folder: Path) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return _uploaded(folder)


def _uploaded(folder: Path) -> Any:
    shutil.rmtree(folder / TRACKING_FOLDER, ignore_errors=True)
    (folder / TRACKING_FOLDER).mkdir()
    store = _Store()
    lanes = _Lanes(folder, projection=store, cursor=Cursor.load(folder, uri=URI))
    for advance in (lanes.advance_points, lanes.advance_files):
        while advance():
            pass
    while lanes.advance_models(hurry=True):
        pass
    lanes.settle()
    "".join(store.sent).encode()
    rejected = folder / TRACKING_FOLDER / "rejected.jsonl"
    told = rejected.read_text().splitlines() if rejected.exists() else []
    return all(json.loads(line)["reason"] for line in told)


READERS = (
    Reader(
        name="run folder, uploaded",
        make=_run,
        read=_all,
        targets=(
            Target(path="journal.jsonl", mutators=(damaged, json_lines_edited, json_lines_edited)),
            Target(path="samples/ema-000000320.png"),
            Target(path="samples/table-000000320.html"),
            Target(path="checkpoints/320/scores.json", mutators=(damaged, json_edited)),
        ),
    ),
)
