"""The progress of the upload to one store, kept in `<run>/tracking/upload-<hash of the URI>.json`.

Written by atomic rename after the store has answered, never before: a crash in between repeats a batch, and a batch
that repeats with its original timestamps stores nothing twice. An offset counts only as long as the bytes before it
are the ones that were uploaded; after a power cut that took the journal's end, the upload starts over, harmlessly.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from framework.tracking.checkpoints import checkpoint_paths, scores_written_ns
from framework.tracking.records import JOURNAL_NAME
from framework.tracking.uri import portable_uri, redact, resolved_uri
from framework.utils.bounded import is_count, open_regular, read_object
from framework.utils.errors import FrameworkError

TRACKING_FOLDER = "tracking"

_PROBE_BYTES = 256


@dataclass(kw_only=True)
class Position:
    """A place in the journal: everything before `offset_bytes` is done."""

    offset_bytes: int = 0
    probe: str = ""

    def move(self, journal: Path, *, to_bytes: int) -> None:
        """Move forward and remember what the bytes before the new place look like."""
        self.offset_bytes, self.probe = to_bytes, _probe(journal, to_bytes)

    def check(self, journal: Path) -> None:
        """Go back to the beginning when the journal is not the one this position was taken in."""
        if self.offset_bytes and self.probe != _probe(journal, self.offset_bytes):
            self.offset_bytes, self.probe = 0, ""


@dataclass(kw_only=True)
class Cursor:
    """The state of one run's upload to one store.

    Attributes:
        points: position of metrics, parameters, tags and status.
        files: position of images and artifacts, which may lag behind (a broken artifact store must not hold up charts).
        status: last run status the store has accepted.
        models: models made of checkpoints so far, by their manifests' sha256 (see `framework.tracking.models`).
        num_rejected: records parked in `rejected.jsonl`.
        problem: why the last attempt failed; empty while all goes well.
    """

    path: Path
    uri: str
    run_id: str = ""
    experiment_id: str = ""
    status: str = ""
    points: Position = field(default_factory=Position)
    files: Position = field(default_factory=Position)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    num_rejected: int = 0
    problem: str = ""

    @classmethod
    def load(cls, run_folder: Path, *, uri: str) -> "Cursor":
        """Read the cursor for a store; a fresh one when there is none or it is damaged (then all is sent again)."""
        name = hashlib.sha256(redact(uri).encode()).hexdigest()[:8]
        path = run_folder / TRACKING_FOLDER / f"upload-{name}.json"
        fresh = cls(path=path, uri=redact(uri))
        try:
            stored = read_object(path)
        except (FileNotFoundError, FrameworkError):
            return fresh
        if not _is_cursor(stored):
            return fresh
        points, files = Position(**stored.pop("points")), Position(**stored.pop("files"))
        cursor = cls(path=path, points=points, files=files, **stored | {"uri": redact(uri)})
        journal = run_folder / JOURNAL_NAME
        cursor.points.check(journal)
        cursor.files.check(journal)
        return cursor

    @staticmethod
    def read_uri(path: Path) -> str | None:
        """Return the (redacted) URI of a cursor file, as seen from where the run is now; None when it is damaged."""
        try:
            uri = read_object(path).get("uri")
            return resolved_uri(uri, run_folder=path.parents[1]) if isinstance(uri, str) else None
        except FrameworkError:
            return None

    @staticmethod
    def forget(run_folder: Path) -> None:
        """Remove the cursors of a copied folder: they describe the uploads of another run."""
        for path in (run_folder / TRACKING_FOLDER).glob("upload-*.json"):
            path.unlink(missing_ok=True)

    def models_are_behind(self, run_folder: Path) -> bool:
        """Return whether checkpoints or scores on disk may be newer than those that were sent to the store."""
        paths = checkpoint_paths(run_folder)
        sent = {entry["images"]: entry["scores_ns"] for entry in self.models.values() if entry["kept"]}
        if sent.keys() != paths.keys():
            return True
        return any((written := scores_written_ns(path)) and written != sent[i] for i, path in paths.items())

    def has_score(self, name: str, *, images_seen: int) -> bool:
        """Return whether a score has already been sent with the model of its checkpoint."""
        return any(entry["images"] == images_seen and name in entry["scores"] for entry in self.models.values())

    def save(self) -> None:
        """Replace the file, whole or not at all."""
        # No `parents`: a run folder that somebody deleted must not come back.
        self.path.parent.mkdir(exist_ok=True)
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        content["uri"] = portable_uri(self.uri, run_folder=self.path.parents[1])
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(temporary, self.path)

    def restart(self) -> None:
        """Forget what was sent; the next upload begins with the first record and finds its run by the uid."""
        self.run_id = self.experiment_id = self.status = self.problem = ""
        self.points, self.files = Position(), Position()
        self.num_rejected = 0
        self.models = {}


def _is_cursor(stored: dict[str, Any]) -> bool:
    """Return whether a stored cursor has every field, and each of the type it was written with."""
    texts, places = ("uri", "run_id", "experiment_id", "status", "problem"), ("points", "files")
    models = stored.get("models")
    return (
        stored.keys() == {*texts, *places, "models", "num_rejected"}
        and all(isinstance(stored[name], str) for name in texts)
        and all(_is_position(stored[name]) for name in places)
        and is_count(stored["num_rejected"])
        and isinstance(models, dict)
        and all(_is_model(entry) for entry in models.values())
    )


def _is_position(stored: object) -> bool:
    return (
        isinstance(stored, dict)
        and stored.keys() == {"offset_bytes", "probe"}
        and is_count(stored["offset_bytes"])
        and isinstance(stored["probe"], str)
    )


def _is_model(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and is_count(entry.get("images"))
        and is_count(entry.get("scores_ns"), most=1 << 63)
        and isinstance(entry.get("kept"), bool)
        and isinstance(entry.get("model_id"), str)
        and isinstance(scores := entry.get("scores"), dict)
        and all(type(value) in (int, float) for value in scores.values())
    )


def _probe(journal: Path, offset_bytes: int) -> str:
    try:
        with open_regular(journal) as file:
            if offset_bytes > os.fstat(file.fileno()).st_size:
                return "cut"
            file.seek(max(0, offset_bytes - _PROBE_BYTES))
            before = file.read(min(offset_bytes, _PROBE_BYTES))
    except FileNotFoundError:
        return "no journal"
    return hashlib.sha256(before).hexdigest()[:16] if len(before) == min(offset_bytes, _PROBE_BYTES) else "cut"
