"""The records of the journal, one JSON object per line, `kind` and `time_ms` (milliseconds since 1970) first.

    kind       further fields
    start      uid, attempt, experiment, run_name, uri, host, user, pid, command, folder    one per launch of the run;
               `uri` is null without MLflow, and sqlite:///../mlflow.db for the database beside the run folder, wherever
               that is; `copy_of` (a uid) where a copied folder begins to be a run of its own
    metrics    images, values {name: float}, nonfinite {name: "nan" | "inf" | "-inf"} (only when there are any)
    params     values {name: str}
    tags       values {name: str}
    image      key, images, file (PNG, relative to the run folder), token, form ("pictures" or "plot"; absent in
               journals of old), description (in words)
    media      key, images, file (HTML, relative to the run folder), form ("sounds" or "page"), description
    artifact   file (relative to the run folder), folder (in MLflow)
    dataset    name, digest, location, profile {count, classes, ...}
    evaluation images, records {name: {"value", "protocol", ...}}; the values are in a `metrics` record beside it
    health     images, sentinel, state (ok, warn or failing), before (the state it had, if any), reason, remedy,
               overall (the worst state of all sentinels)
    resumed    images (clock of the checkpoint that training continues from)
    rollback   images, from_images (where training went back to after a collapse, and from where)
    dropped    count, total (records given up while the disk was full: just now, since the run began)
    end        status (FINISHED, FAILED or KILLED)

The format is ours. It is plain text so that `tail -f`, `jq` and ten lines of Python can read it without this package.
"""

import json
import logging
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.tracking.checkpoints import chart_of
from framework.tracking.fields import is_record
from framework.tracking.uri import resolved_uri
from framework.utils.bounded import open_regular, parse_json
from framework.utils.errors import FrameworkError

Record = dict[str, Any]

JOURNAL_NAME = "journal.jsonl"
# The folder of drawings in a run, and of the same files in MLflow.
FIGURES = "figures"
PICTURE_SUFFIX, PAGE_SUFFIX = ".png", ".html"
"""The endings of the files of `image` and of `media` records."""
STATUSES = ("FINISHED", "FAILED", "KILLED")
# From good to bad.
HEALTH_STATES = ("ok", "warn", "failing")
MAX_NAME_LENGTH = 250

_NAME = re.compile(r"[A-Za-z0-9_\-./ :]+")
_CHUNK_BYTES = 1 << 22
MAX_LINE_BYTES = 1 << 24
"""The most bytes of a record; the longest ones hold the parameters of a launch."""

_log = logging.getLogger(__name__)


def check_name(name: str) -> str:
    """Return `name` if MLflow can store it as a metric, parameter, tag or image key.

    Raises:
        FrameworkError: the name holds other characters than MLflow allows, or is no plain relative path.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise FrameworkError(
            f"{name!r} cannot be a name in the journal: use at most {MAX_NAME_LENGTH} letters, digits and _ - . / : "
            "(for example `logits/real` instead of `D(x)`)"
        )
    if posixpath.normpath(name) != name or name.startswith(("/", "..")):
        raise FrameworkError(f"{name!r} cannot be a name in the journal: no empty, '.' or '..' part, no leading slash")
    return name


def encode(kind: str, *, time_ms: int, fields: Record) -> bytes:
    """Return the journal line of one record."""
    record = {"kind": kind, "time_ms": time_ms, **fields}
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def read_journal(path: Path, *, offset: int = 0) -> Iterator[tuple[int, Record]]:
    """Yield `(end offset in bytes, record)` for each complete line from `offset` to the current end of the file.

    A torn last line is left for the next call. A complete line that is no record (a damaged disk, an edited file) is
    yielded as `{"kind": "unreadable", "time_ms": 0, "line": text}`, so that no reader misses it.

    Raises:
        OSError: the file cannot be read.
        FrameworkError: it is no regular file, or a line is too long for a record.
    """
    for end, line in _lines(path, offset=offset):
        yield end, _decode(line)


def _lines(path: Path, *, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield `(end offset in bytes, line)` for each complete line."""
    with open_regular(path) as file:
        file.seek(offset)
        tail = b""
        while chunk := file.read(_CHUNK_BYTES):
            *lines, tail = (tail + chunk).split(b"\n")
            for line in lines:
                offset += len(line) + 1
                yield offset, line
            if len(tail) > MAX_LINE_BYTES:  # its end may be a terabyte away
                raise FrameworkError(
                    f"{path}: the line at byte {offset} has more than {MAX_LINE_BYTES} bytes, which no record has: "
                    "cut the file there or move it away"
                )


def _decode(line: bytes) -> Record:
    try:
        # NaN is no JSON, but other programs write it into journals.
        record = parse_json(line, source="the line", finite=False)
    except FrameworkError:
        record = None
    if is_record(record):
        return record
    return {"kind": "unreadable", "time_ms": 0, "line": line[:1000].decode(errors="replace")}


@dataclass(kw_only=True)
class JournalState:
    """The sum of the records so far, which a resumed run needs to write nothing twice."""

    num_attempts: int = 0
    num_nonfinite: int = 0
    num_dropped: int = 0
    size_bytes: int = 0
    start: Record = field(default_factory=dict)
    high_water_images: dict[str, int] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lineage: list[str] = field(default_factory=list)
    health: dict[str, str] = field(default_factory=dict)
    dataset: Record = field(default_factory=dict)

    def observe(self, record: Record) -> None:
        """Take one record into account."""
        kind = record["kind"]
        # Clocks reached under each name.
        if kind == "metrics":
            images = record["images"]
            for name in (*record["values"], *record.get("nonfinite", ())):
                self.high_water_images[name] = max(images, self.high_water_images.get(name, -1))
            self.num_nonfinite += len(record.get("nonfinite", ()))
        elif kind in ("image", "media"):
            key = shown_mark(record["key"])
            self.high_water_images[key] = max(record["images"], self.high_water_images.get(key, -1))
        # Values that hold for the whole run.
        elif kind == "params":
            self.params |= record["values"]
        elif kind == "tags":
            self.tags |= record["values"]
        elif kind == "start":
            # Identity and birth are the first launch's; where to upload to is the latest launch's choice.
            first = record if "copy_of" in record else self.start or record
            self.start = record | {"uid": first["uid"], "born_ms": first.get("born_ms", record["time_ms"])}
            self.num_attempts += 1
        # Lost records, resumes and rollbacks.
        elif kind == "dropped":
            self.num_dropped = record["total"]
        elif kind == "resumed":
            self.lineage.append(f"resumed at {record['images']:,}")
        elif kind == "rollback":
            self.lineage.append(f"back from {record['from_images']:,} to {record['images']:,}")
            for key, mark in self.high_water_images.items():
                if key.startswith(("evaluation:", "metrics/")):  # other weights will be measured
                    self.high_water_images[key] = min(mark, record["images"])
        # The latest state of health and data, and the evaluations.
        elif kind == "health":
            self.health[record["sentinel"]] = record["state"]
        elif kind == "dataset":
            self.dataset = record
        elif kind == "evaluation":
            for name, one in record["records"].items():
                key = evaluation_mark(name, one)
                self.high_water_images[key] = max(record["images"], self.high_water_images.get(key, -1))


def shown_mark(key: str) -> str:
    """Return the name under which the high-water mark of what is shown is kept (a metric may bear the same name)."""
    return f"image:{key}"


def evaluation_mark(name: str, record: Any) -> str:
    """Return the name under which an evaluated metric's high-water mark is kept; each protocol has its own."""
    return f"evaluation:{chart_of(name, record)}"


def scan_journal(path: Path) -> JournalState:
    """Read a whole journal (tens of MB per second); a missing file is an empty one.

    Lines that are no records are skipped with one warning that names the first: nothing that a resumed run computes
    depends on the journal. What such a line held may be written again.
    """
    state, damaged = JournalState(), list[int]()
    if path.exists():
        for number, (end, record) in enumerate(read_journal(path), start=1):
            if record["kind"] == "unreadable":
                damaged.append(number)
            state.observe(record)
            state.size_bytes = end
    if damaged:
        _log.warning("%s: %d line(s) are no records and are passed over, first line %d", path, len(damaged), damaged[0])
    return state


def last_start(path: Path, *, missing_ok: bool = False) -> Record:
    """Return the latest `start` record under the first one's `uid` and time (`born_ms`); other lines are not parsed.

    Its `uri` is the store as seen from where the run folder is now.

    Args:
        path: the journal.
        missing_ok: return an empty record if there is none.

    Raises:
        FrameworkError: the folder holds no journal, or one without a start record.
    """
    if not path.exists():
        if missing_ok:
            return {}
        raise FrameworkError(f"{path.parent} holds no {path.name}: give the folder of a run (the one of `--out`)")
    state = JournalState()
    for _, line in _lines(path, offset=0):
        if line.startswith(b'{"kind":"start"') and (record := _decode(line))["kind"] == "start":
            state.observe(record)
    if not state.start and not missing_ok:
        raise FrameworkError(f"{path} has no start record: it was not written by a training run")
    kept = state.start.get("uri")
    return state.start | {"uri": resolved_uri(kept, run_folder=path.parent)} if kept else state.start


def named_start(path: Path) -> Record:
    """Return what `last_start` returns, with defaults for names that a store must have and the record lacks.

    Raises:
        FrameworkError: as `last_start`.
    """
    return {"experiment": "Default", "run_name": path.parent.name, "user": "", "command": ""} | last_start(path)
