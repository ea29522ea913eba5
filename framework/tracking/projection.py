"""One run as an MLflow store sees it.

It relies on facts of MLflow 3 with an SQL store: a metric point's primary key is key, timestamp, step, value and
run, so a batch sent again stores nothing twice; `create_run` has no such key, so a run is looked for by its tag first;
a bad record and a deleted run answer with the same error code, so the run is asked for before a record is blamed.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from framework.tracking.moved import artifacts_of, follow
from framework.tracking.records import Record
from framework.tracking.uri import SQLITE, redact, sqlite_path
from framework.utils.errors import FrameworkError
from framework.utils.locks import make_file

MAX_METRICS_PER_BATCH = 1000
MAX_OTHERS_PER_BATCH = 100

UID_TAG = "framework.run_uid"
EXIT_TAG = "framework.exit"
IMAGES_TAG = "mlflow.loggedImages"

_LOCK_TIMEOUT_SECONDS = 60
_RETRIES_VARIABLE = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"

Entity = Metric | Param | RunTag
T = TypeVar("T")


class RunGoneError(FrameworkError):
    """The run no longer exists in the store (another database, or deleted for good): it must be sent again."""


class RunDeletedError(FrameworkError):
    """Somebody deleted the run or its experiment in MLflow; only a person can say what is wanted."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An entity that the store will never take, and why."""

    entity: str
    reason: str


class Projection:
    """The client of one store for one run; every method may raise what the connection raises, and callers retry."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._run_id = ""
        self._experiment_id = ""
        self._images_tagged = False
        self._database = sqlite_path(uri)
        self._lock: FileLock | None = None
        if self._database:
            # SQLite takes one writer at a time and gives up on a busy database after 5 s: our own processes queue.
            self._database.parent.mkdir(parents=True, exist_ok=True)
            lock = self._database.with_name(f"{self._database.name}.lock")
            make_file(lock)
            self._lock = FileLock(lock, timeout=_LOCK_TIMEOUT_SECONDS)

    @functools.cached_property
    def _client(self) -> MlflowClient:
        # Made on first use, because for SQLite this opens the database, which may fail and be retried.
        with self._guard():
            if self._database:
                if not self._database.exists():
                    _create_database(self._database)
                follow(self._database)
            return MlflowClient(tracking_uri=self._uri)

    def open_run(self, start: Record, *, run_id: str, experiment_id: str) -> tuple[str, str]:
        """Find the run by its uid, or create it, and use it from now on; return `(run id, experiment id)`.

        Raises:
            RunDeletedError: the run's experiment is deleted in MLflow.
        """
        self._run_id, self._experiment_id = run_id, experiment_id
        if not run_id:
            self._images_tagged = False
            with self._guard():
                self._experiment_id = self._find_or_create_experiment(start["experiment"])
                self._run_id = self._find_or_create_run(start)
        return self._run_id, self._experiment_id

    def log(self, *, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]) -> list[Rejection]:
        """Store a batch of any size; return what the store refuses for good.

        Raises:
            RunGoneError: the store no longer has the run.
            RunDeletedError: the run or its experiment is deleted in MLflow.
        """
        rejected: list[Rejection] = []
        for entities, limit in (
            (metrics, MAX_METRICS_PER_BATCH),
            (params, MAX_OTHERS_PER_BATCH),
            (tags, MAX_OTHERS_PER_BATCH),
        ):
            for first in range(0, len(entities), limit):
                rejected += self._log_or_halve(entities[first : first + limit])
        return rejected

    def log_file(self, path: Path, *, folder: str) -> None:
        """Copy a file into the run's artifacts; a file of the same name is replaced."""
        with self._guard(), self._translated():
            self._client.log_artifact(self._run_id, str(path), folder or None)

    def request(self, function: Callable[[MlflowClient, str, str], T]) -> T:
        """Call `function(client, run id, experiment id)` while no other of our processes uses the store.

        Raises:
            RunGoneError: the store no longer has the run.
        """
        with self._guard(), self._translated():
            return function(self._client, self._run_id, self._experiment_id)

    def log_dataset(self, record: Record) -> None:
        """Name the data that the run trains on; a second call with the same name and digest changes nothing."""
        dataset = Dataset(
            name=record["name"],
            digest=record["digest"],
            source_type="shards",
            source=json.dumps({"uri": record.get("location", "")}),
            profile=json.dumps(record.get("profile", {})),
        )
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, "training")]
        self.request(lambda client, run_id, _: client.log_inputs(run_id, [DatasetInput(dataset, tags)]))

    def show_images(self) -> None:
        """Tell MLflow's page that this run has images."""
        if not self._images_tagged:
            self._set_tag(IMAGES_TAG, "True")
            self._images_tagged = True

    def reopen(self) -> None:
        """Show the run as running, also after it had ended."""
        with self._guard(), self._translated():
            run = self._client.get_run(self._run_id)
            self._refuse_deleted(run)
            if run.info.status != "RUNNING":
                self._client.update_run(self._run_id, status="RUNNING")
            if EXIT_TAG in run.data.tags:
                self._client.delete_tag(self._run_id, EXIT_TAG)

    def end(self, *, status: str, time_ms: int, clean: bool, uid: str) -> None:
        """Give the run its final status; delete empty twins that a lost answer to `create_run` may have left."""
        with self._guard(), self._translated():
            for run in self._runs(uid):
                if run.info.run_id != self._run_id and not run.data.metrics and not run.data.params:
                    self._client.delete_run(run.info.run_id)
            self._set_tag(EXIT_TAG, "clean" if clean else "unclean")
            self._client.set_terminated(self._run_id, status, end_time=time_ms)

    def _set_tag(self, name: str, value: str) -> None:
        with self._guard(), self._translated():
            self._client.set_tag(self._run_id, name, value)

    def _log_or_halve(self, entities: Sequence[Entity]) -> list[Rejection]:
        try:
            with self._guard(), self._translated():
                self._client.log_batch(
                    self._run_id,
                    metrics=[e for e in entities if isinstance(e, Metric)],
                    params=[e for e in entities if isinstance(e, Param)],
                    tags=[e for e in entities if isinstance(e, RunTag)],
                )
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            # The store answers the same for a deleted run; then nothing is wrong with the record.
            with self._guard(), self._translated():
                self._refuse_deleted(self._client.get_run(self._run_id))
            if len(entities) == 1:
                return [Rejection(entity=str(dict(entities[0])), reason=str(error)[:500])]
            half = len(entities) // 2
            return self._log_or_halve(entities[:half]) + self._log_or_halve(entities[half:])
        return []

    def _find_or_create_experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = artifacts_of(self._database) if self._database else None
            try:
                return self._client.create_experiment(name, artifact_location=location)
            except MlflowException as error:
                # Another run of the same experiment was faster.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            return self._find_or_create_experiment(name)
        if experiment.lifecycle_stage == "deleted":
            raise RunDeletedError(f"experiment {name!r} is deleted in MLflow: restore it there, or use another name")
        return experiment.experiment_id

    def _find_or_create_run(self, start: Record) -> str:
        runs = self._runs(start["uid"])
        if not runs:
            with _no_http_retry():
                self._client.create_run(
                    self._experiment_id,
                    start_time=start["born_ms"],
                    run_name=start["run_name"],
                    tags={
                        UID_TAG: start["uid"],
                        "mlflow.user": start["user"],
                        "mlflow.source.name": start["command"],
                        "mlflow.source.type": "LOCAL",
                    },
                )
            runs = self._runs(start["uid"])
        # Of twins (an answer was lost), take the one with data; then any rule that is the same for everybody.
        runs.sort(key=lambda run: (not run.data.metrics, run.info.run_id))
        return runs[0].info.run_id

    def _runs(self, uid: str) -> list[Run]:
        return list(self._client.search_runs([self._experiment_id], f"tags.`{UID_TAG}` = '{uid}'", max_results=20))

    def _refuse_deleted(self, run: Run) -> None:
        experiment = self._client.get_experiment(run.info.experiment_id)
        for what, stage in (("run", run.info.lifecycle_stage), ("experiment", experiment.lifecycle_stage)):
            if stage == "deleted":
                raise RunDeletedError(
                    f"this run's {what} is deleted in MLflow: restore it there, or make a new run with "
                    "framework sync RUN --rebuild"
                )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise RunGoneError(f"run {self._run_id} is not in {redact(self._uri)} any more") from error
            raise

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        with self._lock or contextlib.nullcontext():
            yield


def _create_database(database: Path) -> None:
    """Let MLflow make its tables in a file of another name first.

    This takes seconds, and MLflow never opens a file that a killed process has left unfinished.
    """
    for leftover in database.parent.glob(f".{database.name}.*.new*"):
        leftover.unlink()
    temporary = database.with_name(f".{database.name}.{os.getpid()}.new")
    make_file(temporary)  # a file that SQLite makes is for this account alone, whatever the umask
    MlflowClient(tracking_uri=f"{SQLITE}{temporary}").search_experiments(max_results=1)
    os.replace(temporary, database)


@contextlib.contextmanager
def _no_http_retry() -> Iterator[None]:
    """Keep the HTTP client from sending a request twice on its own."""
    before = os.environ.get(_RETRIES_VARIABLE)
    os.environ[_RETRIES_VARIABLE] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RETRIES_VARIABLE]
        else:
            os.environ[_RETRIES_VARIABLE] = before
