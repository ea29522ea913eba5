"""The queues of the upload from the journal to one store: what is sent in which order, and what counts as done.

Two queues read the same journal. *Points* go in batches of neighbouring records; *files* go one by one and may lag.
A queue moves its position only after the store's answer, so a crash anywhere repeats at most one request per queue.
A third queue, *models*, follows the checkpoints on disk.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag

from framework.media.base import MOST_BYTES
from framework.tracking.checkpoints import CHECKPOINTS_FOLDER, LOCATION_TAG
from framework.tracking.cursor import TRACKING_FOLDER, Cursor
from framework.tracking.destination import inside
from framework.tracking.lock import WRITER_LOCK_NAME, writer_is_alive
from framework.tracking.models import ModelQueue
from framework.tracking.previews import ARTIFACT_FOLDER, mlflow_names, stage
from framework.tracking.projection import MAX_METRICS_PER_BATCH, Projection, Rejection
from framework.tracking.records import (
    JOURNAL_NAME,
    PAGE_SUFFIX,
    Record,
    check_name,
    last_start,
    named_start,
    read_journal,
)
from framework.utils.errors import FrameworkError

MAX_TAG_LENGTH = 7900  # MLflow cuts longer ones silently
REJECTED_NAME = "rejected.jsonl"
DROPPED_TAG = "framework.dropped_records"


@dataclass(kw_only=True)
class _Batch:
    """A batch of neighbouring records that fit into one round of requests."""

    run_folder: Path
    end_bytes: int
    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    tags: list[RunTag] = field(default_factory=list)
    datasets: list[Record] = field(default_factory=list)
    status: Record | None = None
    unreadable: list[Rejection] = field(default_factory=list)

    def take(self, record: Record) -> bool:
        """Add a record; return False if it must wait for the next batch."""
        try:
            return self._take(record)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Valid JSON of another shape (an edited or foreign journal) must not stop what comes after it.
            self.unreadable.append(Rejection(entity=json.dumps(record), reason=f"malformed record: {error!r}"))
            return True

    def _take(self, record: Record) -> bool:
        kind = record["kind"]
        # Launches and their ends: a status is sent alone, after everything before it.
        if kind in ("start", "end"):
            if self.metrics or self.params or self.tags or self.datasets:
                return False
            self.status = record
        # Numbers, as many as one request may hold, and texts.
        elif kind == "metrics":
            if self.metrics and len(self.metrics) + len(record["values"]) > MAX_METRICS_PER_BATCH:
                return False
            time_ms, images = record["time_ms"], record["images"]
            self.metrics += [Metric(name, value, time_ms, images) for name, value in record["values"].items()]
        elif kind == "params":
            self.params += [Param(name, value) for name, value in record["values"].items()]
        elif kind == "tags":
            values = dict(record["values"])
            if LOCATION_TAG in values:  # the run may have been moved
                values[LOCATION_TAG] = str(self.run_folder / CHECKPOINTS_FOLDER / Path(values[LOCATION_TAG]).name)
            return self._add_tags(values)
        # Data sets, and records that become tags of the run.
        elif kind == "dataset":
            self.datasets.append(record)
        elif kind == "health":
            sentinel, state = record["sentinel"], record["state"]
            tags = {"framework.health": record["overall"]}
            if state != "ok" or "before" in record:  # a sentinel that was always ok needs no tag of its own
                tags[f"framework.health.{sentinel}"] = f"{state} at {record['images']:,}: {record['reason']}"
            return self._add_tags(tags)
        elif kind == "dropped":
            self.tags = [tag for tag in self.tags if tag.key != DROPPED_TAG]
            self.tags.append(RunTag(DROPPED_TAG, str(record["total"])))
        # Lines that are no records are reported; other kinds are for other readers.
        elif kind == "unreadable":
            self.unreadable.append(Rejection(entity=record["line"], reason="this line of the journal is no record"))
        return True

    def _add_tags(self, values: dict[str, str]) -> bool:
        # Within one request, the order of two values for one name is undefined.
        if {tag.key for tag in self.tags} & values.keys():
            return False
        self.tags += [RunTag(name, value[:MAX_TAG_LENGTH]) for name, value in values.items()]
        return True


class UploadQueues:
    """The queues of one run; `advance_*` raise what the connection raises, and then no position moves."""

    def __init__(self, run_folder: Path, *, projection: Projection, cursor: Cursor) -> None:
        self._run_folder = run_folder
        self._journal = run_folder / JOURNAL_NAME
        self._projection = projection
        self._cursor = cursor
        self._models = ModelQueue(run_folder, projection=projection, cursor=cursor, bind=self._bind)

    def advance_models(self, *, hurry: bool) -> bool:
        """Bring the store's models one step nearer to the checkpoints on disk; return False if they match."""
        return self._models.advance(hurry=hurry)

    def advance_points(self) -> bool:
        """Send the next batch of points; return False if there was none."""
        cursor = self._cursor
        batch = self._next_batch()
        if batch.end_bytes == cursor.points.offset_bytes:
            return False
        # What the store will hold must be on the disk and belong to a run.
        self._make_durable()
        self._bind()
        # Send, and keep what the store refuses.
        rejected = batch.unreadable
        if batch.status is not None:
            self._set_status(batch.status)
        else:
            rejected = rejected + self._projection.log(metrics=batch.metrics, params=batch.params, tags=batch.tags)
            for dataset in batch.datasets:
                self._projection.log_dataset(dataset)
        self._park(rejected)
        # The store has answered: the records are done.
        cursor.points.move(self._journal, to_bytes=batch.end_bytes)
        cursor.save()
        return True

    def advance_files(self) -> bool:
        """Send the next picture, page or artifact; return False if there was none."""
        before = done = self._cursor.files.offset_bytes
        for end, record in self._records(before):
            done = end
            if record["kind"] in ("image", "media", "artifact"):
                self._bind()
                self._send_file(record)
                break
        if done == before:
            return False
        self._cursor.files.move(self._journal, to_bytes=done)
        self._cursor.save()
        return True

    def settle(self) -> bool:
        """Mark a run as failed if its trainer ended without an `end` record; return whether it was marked."""
        if self._cursor.status != "RUNNING" or writer_is_alive(self._run_folder / WRITER_LOCK_NAME):
            return False
        self._bind()
        self._finish("FAILED", time_ms=self._journal.stat().st_mtime_ns // 1_000_000, clean=False)
        return True

    def _records(self, offset_bytes: int) -> Iterator[tuple[int, Record]]:
        return read_journal(self._journal, offset=offset_bytes)

    def _next_batch(self) -> _Batch:
        batch = _Batch(run_folder=self._run_folder, end_bytes=self._cursor.points.offset_bytes)
        for end, record in self._records(batch.end_bytes):
            if not batch.take(self._unsent(record)):
                break
            batch.end_bytes = end
            if batch.status is not None:
                break
        return batch

    def _unsent(self, record: Record) -> Record:
        """Return a record without the scores that were sent with a model before they came into the journal."""
        if record["kind"] != "metrics" or not isinstance(record.get("values"), dict):
            return record
        sent = [name for name in record["values"] if self._cursor.has_score(name, images_seen=record.get("images", -1))]
        return record | {"values": {n: value for n, value in record["values"].items() if n not in sent}}

    def _make_durable(self) -> None:
        # The disk must hold what MLflow holds, or a resume after a power cut would log those steps again.
        with self._journal.open("rb") as file:
            os.fsync(file.fileno())

    def _bind(self) -> None:
        cursor = self._cursor
        start = {} if cursor.run_id else named_start(self._journal)
        ids = self._projection.open_run(start, run_id=cursor.run_id, experiment_id=cursor.experiment_id)
        if not cursor.run_id:
            cursor.run_id, cursor.experiment_id = ids
            cursor.save()

    def _set_status(self, record: Record) -> None:
        if record["kind"] == "start":
            self._projection.reopen()
            self._cursor.status = "RUNNING"
        else:
            self._finish(record["status"], time_ms=record["time_ms"], clean=True)

    def _finish(self, status: str, *, time_ms: int, clean: bool) -> None:
        uid = last_start(self._journal)["uid"]
        self._projection.end(status=status, time_ms=time_ms, clean=clean, uid=uid)
        self._cursor.status = status
        self._cursor.save()

    def _send_file(self, record: Record) -> None:
        try:
            source = inside(self._run_folder, record["file"])
            names = mlflow_names(record) if record["kind"] == "image" else None
            folder = _artifact_folder(record, source)
        except (FileNotFoundError, LookupError, TypeError, ValueError, AttributeError, FrameworkError) as error:
            # Gone, outside the run folder, or not as we write records: it is noted, and the upload goes on.
            self._park([Rejection(entity=json.dumps(record), reason=str(error))])
            return
        # An artifact or a page goes as it is; a picture with a preview, under the names that MLflow's page looks for.
        if names is None:
            self._projection.log_file(source, folder=folder)
        else:
            self._send_picture(record, source, names, folder=folder)

    def _send_picture(self, record: Record, source: Path, names: tuple[str, str], *, folder: str) -> None:
        with tempfile.TemporaryDirectory(prefix="framework-upload-") as temporary:
            try:
                staged = stage(source, names, folder=Path(temporary))
            except (FileNotFoundError, FrameworkError) as error:
                if source.is_file() and isinstance(error, FileNotFoundError):
                    raise  # something else is missing: not this record's fault
                self._park([Rejection(entity=json.dumps(record), reason=str(error))])
                return
            for path in staged:
                self._projection.log_file(path, folder=folder)
        self._projection.show_images()

    def _park(self, rejected: list[Rejection]) -> None:
        if not rejected:
            return
        path = self._run_folder / TRACKING_FOLDER / REJECTED_NAME
        with path.open("a") as file:
            for rejection in rejected:
                file.write(json.dumps({"entity": rejection.entity, "reason": rejection.reason}) + "\n")
        self._cursor.num_rejected += len(rejected)


def _artifact_folder(record: Record, source: Path) -> str:
    """Return the folder of MLflow's artifacts that a record's file goes to; empty for the top.

    Raises:
        FrameworkError: MLflow cannot take the folder's name.
        ValueError: the file of a page is no page, or larger than a page may be.
    """
    if record["kind"] == "image":
        return ARTIFACT_FOLDER
    if record["kind"] == "artifact":
        folder = record["folder"]
    else:
        # The name that the run gave it, so that a second upload replaces the first.
        folder = record["key"].rpartition("/")[0]
        if source.suffix != PAGE_SUFFIX or source.stat().st_size > MOST_BYTES:
            raise ValueError(f"{source.name} is no {PAGE_SUFFIX} file of at most {MOST_BYTES:,} bytes")
    return check_name(folder) if folder else ""
