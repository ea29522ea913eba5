"""Writes the records of an offline evaluation into their run's journal, and through it into the same MLflow run.

The journal has one writer. While a trainer is alive the records stay beside the checkpoint; the same command, run
again later, finds them there and brings them in without measuring anything.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from framework.evaluation.protocol import Record, key_of
from framework.tracking.journal import Journal
from framework.tracking.lock import WRITER_LOCK_NAME, writer_is_alive
from framework.tracking.records import JOURNAL_NAME, last_start, read_journal


def run_of(path: Path) -> Path | None:
    """Return the run folder of a checkpoint, or of a run; None when there is no journal."""
    path = path.resolve()
    for folder in (path, path.parent, path.parent.parent):
        if (folder / JOURNAL_NAME).is_file():
            return folder
    return None


def store_of(run: Path) -> str | None:
    """Return the MLflow store the run was trained with; None without one."""
    return last_start(run / JOURNAL_NAME)["uri"]


def write_to_run(checkpoint: Path, records: Sequence[Record], *, images_seen: int) -> str | None:
    """Append the records that the run's journal does not hold yet.

    Args:
        checkpoint: folder of the checkpoint.
        records: records of the checkpoint; missing ones are left out.
        images_seen: the checkpoint's clock, images seen.

    Returns:
        A sentence for the user when the records could not go there; None when they did, or there is no run.
    """
    run = run_of(checkpoint)
    values = {record.series: record for record in records if record.value is not None}
    if run is None or not values:
        return None
    if writer_is_alive(run / WRITER_LOCK_NAME):
        return (
            f"{run} is in training: the records are beside the checkpoint ({checkpoint.name}); run the same command "
            "after it to bring them into the run, nothing is measured twice"
        )
    known = _known(run / JOURNAL_NAME, images_seen)
    new = {name: record for name, record in values.items() if name not in known}
    if not new:
        return None
    with _appending(run) as journal:
        journal.write(
            "metrics", {"images": images_seen, "values": {name: record.value for name, record in new.items()}}
        )
        journal.write("evaluation", {"images": images_seen, "records": {r.name: r.to_json() for r in new.values()}})
        journal.write("tags", {"values": protocol_tags(new.values())})
    return None


def protocol_tags(records: Iterable[Record]) -> dict[str, str]:
    """Return the protocols of the records, as tags of their run."""
    return {f"framework.protocol.{key_of(record)}": json.dumps(record.protocol.to_json()) for record in records}


def show_in_run(figure: Path) -> None:
    """Show a figure inside a run folder to readers of the run: MLflow, and the report.

    While the run is in training its journal is not written to; the same command, run after it, draws the figure again.
    """
    run = run_of(figure.parent)
    if run is None or writer_is_alive(run / WRITER_LOCK_NAME):
        return
    with _appending(run) as journal:
        journal.write("artifact", {"file": figure.relative_to(run).as_posix(), "folder": figure.parent.name})


@contextlib.contextmanager
def _appending(run: Path) -> Iterator[Journal]:
    """Open the journal of a run that is not in training; what was written is on disk afterwards."""
    journal = Journal(run)
    try:
        yield journal
        journal.sync()
    finally:
        journal.close()


def _known(path: Path, images_seen: int) -> set[str]:
    found: set[str] = set()
    for _, record in read_journal(path):
        if record["kind"] == "metrics" and record["images"] == images_seen:
            found |= set(record["values"])
    return found
