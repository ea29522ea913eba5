"""The checkpoints of a run as MLflow logged models, external ones that name the safetensors and their hashes.

They follow the `checkpoints` folder, not the journal: only the folder shows a killed trainer's last checkpoint, scores
that `framework evaluate` adds a week later, and what retention deletes. A model carries the
last metrics up to its clock and its own scores; when its checkpoint is deleted, it stays and is marked.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

from framework.tracking.checkpoints import (
    CHECKPOINTS_FOLDER,
    HOST_TAG,
    LOCATION_TAG,
    MANIFEST_NAME,
    SHA256_TAG,
    DamagedError,
    KeptCheckpoint,
    Score,
    checkpoint_paths,
    read_checkpoint,
    read_score_file,
    scores_from,
    scores_written_ns,
)
from framework.tracking.cursor import Cursor
from framework.tracking.projection import Projection
from framework.tracking.records import JOURNAL_NAME, MAX_NAME_LENGTH, check_name, named_start, read_journal

MODEL_TYPE = "gan-generator"
FILES_TAG, KEPT_TAG = "framework.files_sha256", "framework.kept"
SCAN_SECONDS = 10.0
# The machine's figures are no property of the weights.
_NOT_THE_MODELS = ("perf/", "system/", "progress/", "lr/")
_TAIL_BYTES = 4 << 20
_MAX_TAG_LENGTH = 5000
# Answers of a store without logged models (MLflow 2); the run then has none.
_UNSUPPORTED = ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED")


class ModelQueue:
    """Makes the store's models match the checkpoints on disk, one change per call."""

    def __init__(self, run_folder: Path, *, projection: Projection, cursor: Cursor, bind: Callable[[], None]) -> None:
        self._run_folder = run_folder
        self._projection = projection
        self._cursor = cursor
        self._bind = bind
        self._known: dict[tuple[str, int], KeptCheckpoint | None] = {}
        self._idle_until = 0.0
        self._unsupported = False
        self._seen_scores = False

    def advance(self, *, hurry: bool) -> bool:
        """Make one change in the store; return False if there is none to make.

        Args:
            hurry: look now, even if the folder was looked through a moment ago.
        """
        if self._unsupported or (not hurry and time.monotonic() < self._idle_until):
            return False
        for change in self._changes():
            self._bind()
            try:
                change()
            except MlflowException as error:
                if error.error_code not in _UNSUPPORTED:
                    raise
                self._unsupported = True
                print("this MLflow server has no logged models: checkpoints are not listed there", flush=True)
                return False
            self._cursor.save()
            return True
        if self._seen_scores:
            self._cursor.save()
        self._seen_scores = False
        self._idle_until = time.monotonic() + SCAN_SECONDS
        return False

    def _changes(self) -> Iterator[Callable[[], None]]:
        if not (self._run_folder / CHECKPOINTS_FOLDER).is_dir():
            return  # out of sight (moved, not mounted) is not deleted
        paths = checkpoint_paths(self._run_folder)
        found = {images: self._read(path) for images, path in paths.items()}
        models = self._cursor.models
        for checkpoint in filter(None, found.values()):
            entry = models.get(checkpoint.sha256)
            if entry is None:
                yield lambda one=checkpoint: self._create(one)  # type: ignore[misc]
            elif not entry["kept"]:
                yield lambda one=entry: self._mark(one, kept=True)  # type: ignore[misc]
            elif scores := self._new_scores(checkpoint, entry):
                yield lambda one=checkpoint, new=scores: self._score(one, new)  # type: ignore[misc]
        for sha256, entry in models.items():
            images = entry["images"]
            present = images in paths and (found[images] is None or found[images].sha256 == sha256)  # type: ignore[union-attr]
            if entry["kept"] and not present:
                yield lambda one=entry: self._mark(one, kept=False)  # type: ignore[misc]

    def _read(self, path: Path) -> KeptCheckpoint | None:
        """Return the checkpoint; None if it is damaged or has just been deleted."""
        try:
            key = (path.name, (path / MANIFEST_NAME).stat().st_mtime_ns)
            if key not in self._known:
                self._known[key] = read_checkpoint(path)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            self._known[key] = None
            print(error, flush=True)
        return self._known[key]

    def _new_scores(self, checkpoint: KeptCheckpoint, entry: dict[str, Any]) -> list[Score]:
        """Return the scores of the checkpoint that its model does not have yet."""
        try:
            written_ns = scores_written_ns(checkpoint.path)
            if written_ns in (0, entry["scores_ns"]):
                return []
            scores = list(scores_from(read_score_file(checkpoint.path)))
        except FileNotFoundError:
            return []
        except ValueError as error:
            print(f"scores of {checkpoint.path}: {error}", flush=True)
            return []
        new = [score for score in scores if entry["scores"].get(score.chart) != score.value and _is_name(score.chart)]
        if not new:
            entry["scores_ns"], self._seen_scores = written_ns, True
        return new

    def _create(self, checkpoint: KeptCheckpoint) -> None:
        start = named_start(self._run_folder / JOURNAL_NAME)
        name = re.sub(r"[/:.%\"']", "-", f"{start['run_name']}-{checkpoint.images_seen}")
        latest = latest_metrics(self._run_folder / JOURNAL_NAME, images_seen=checkpoint.images_seen)
        model_id = self._projection.request(
            lambda client, run_id, experiment_id: _find_or_create(
                client, checkpoint, run_id=run_id, experiment_id=experiment_id, name=name
            )
        )
        if latest:
            points = [Metric(name, value, ms, clock, model_id) for name, (value, ms, clock) in latest.items()]
            self._projection.log(metrics=points, params=[], tags=[])
        self._cursor.models[checkpoint.sha256] = {
            "images": checkpoint.images_seen,
            "model_id": model_id,
            "kept": True,
            "scores": {},
            "scores_ns": 0,
        }

    def _score(self, checkpoint: KeptCheckpoint, scores: list[Score]) -> None:
        entry = self._cursor.models[checkpoint.sha256]
        # The journal's own point of the same score must come out as the same point, not as a second one.
        journalled = logged_times(self._run_folder / JOURNAL_NAME, images_seen=checkpoint.images_seen)
        points = [
            Metric(
                s.chart, s.value, journalled.get(s.chart, checkpoint.time_ms), checkpoint.images_seen, entry["model_id"]
            )
            for s in scores
        ]
        self._projection.log(metrics=points, params=[], tags=[])
        protocols = {
            f"framework.protocol.{score.protocol_id}": text
            for score in scores
            if score.protocol and len(text := json.dumps(score.protocol, sort_keys=True)) <= _MAX_TAG_LENGTH
        }
        if protocols:
            self._projection.request(lambda client, *_: client.set_logged_model_tags(entry["model_id"], protocols))
        entry["scores"] |= {score.chart: score.value for score in scores}

    def _mark(self, entry: dict[str, Any], *, kept: bool) -> None:
        tags = {KEPT_TAG: "true" if kept else "false, deleted by retention or by hand"}
        self._projection.request(lambda client, *_: client.set_logged_model_tags(entry["model_id"], tags))
        entry["kept"] = kept


def latest_metrics(journal: Path, *, images_seen: int) -> dict[str, tuple[float, int, int]]:
    """Return name -> (value, time in milliseconds, clock) of each metric's last value at or before a clock.

    Scores count only at that very clock. The end of a long journal is read first.
    """
    for offset in (max(0, journal.stat().st_size - _TAIL_BYTES), 0):
        found: dict[str, tuple[float, int, int]] = {}
        for _, record in read_journal(journal, offset=offset):
            clock, values = record.get("images"), record.get("values")
            # Damaged records are parked by the queue of points; here they are passed over.
            if record["kind"] != "metrics" or not isinstance(clock, int) or not isinstance(values, dict):
                continue
            for name, value in values.items():
                other = name.startswith("metrics/") and clock != images_seen
                if clock <= images_seen and not other and not name.startswith(_NOT_THE_MODELS):
                    found[name] = (value, int(record["time_ms"]), clock)
        if found or offset == 0:
            return found
    return {}


def logged_times(journal: Path, *, images_seen: int) -> dict[str, int]:
    """Return name -> time in milliseconds of each metric that the journal holds at a clock."""
    times: dict[str, int] = {}
    for _, record in read_journal(journal):
        if record["kind"] == "metrics" and record.get("images") == images_seen:
            times |= dict.fromkeys(record.get("values", ()), int(record["time_ms"]))
    return times


def _find_or_create(
    client: MlflowClient, checkpoint: KeptCheckpoint, *, run_id: str, experiment_id: str, name: str
) -> str:
    """Return the model's id; search before creating, because creating is not idempotent and an answer may get lost."""
    query = f"tags.`{SHA256_TAG}` = '{checkpoint.sha256}' AND source_run_id = '{run_id}'"
    found: list[LoggedModel] = list(client.search_logged_models([experiment_id], query, max_results=1))
    model = found[0] if found else client.create_logged_model(
        experiment_id, name=name, source_run_id=run_id, tags=model_tags(checkpoint), model_type=MODEL_TYPE,
        params={"images": str(checkpoint.images_seen), "processes": str(checkpoint.world)},
    )  # fmt: skip
    if model.tags.get(LOCATION_TAG) != str(checkpoint.path):  # the run has been moved
        client.set_logged_model_tags(model.model_id, model_tags(checkpoint))
    if model.status != LoggedModelStatus.READY:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if model.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, checkpoint.images_seen)])
    return str(model.model_id)


def model_tags(checkpoint: KeptCheckpoint) -> dict[str, str]:
    """Return the tags that say where a checkpoint is and how it hashes.

    With very many files, only the manifest's hash is given, which fixes theirs.
    """
    tags = {
        MLFLOW_MODEL_IS_EXTERNAL: "true",
        LOCATION_TAG: str(checkpoint.path),
        HOST_TAG: socket.gethostname(),
        SHA256_TAG: checkpoint.sha256,
        KEPT_TAG: "true",
    }
    files = json.dumps(checkpoint.weights)
    return tags | ({FILES_TAG: files} if len(files) <= _MAX_TAG_LENGTH else {})


def _is_name(chart: str) -> bool:
    try:
        return len(check_name(chart)) <= MAX_NAME_LENGTH
    except ValueError:
        print(f"a score named {chart!r} cannot be a metric in MLflow and is left out", flush=True)
        return False
