"""The trainer's side of the upload process, which starts it, keeps it alive and wakes it at the end."""

import logging
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import framework.utils.errors
from framework.tracking.cursor import TRACKING_FOLDER, Cursor
from framework.tracking.records import JOURNAL_NAME

URI_VARIABLE = "FRAMEWORK_TRACKING_URI"
RESTART_SECONDS = 60.0

# How long the upload goes on after the trainer has ended: a server may be restarting at that moment.
LINGER_SECONDS = 120.0

# Exit codes of `framework.tracking.upload`.
COMPLETE, INCOMPLETE, BUSY = 0, 1, 3

_log = logging.getLogger(__name__)

# Processes left behind on purpose: dropping the handle would only earn a ResourceWarning.
_left_behind: list[subprocess.Popen[bytes]] = []


def upload_command(run_folder: Path, *options: str) -> list[str]:
    """Return the command line of an upload process."""
    return [sys.executable, "-m", "framework.tracking.upload", str(run_folder), *options]


def upload_environment(uri: str) -> dict[str, str]:
    """Return the environment of an upload process; the URI travels here because it may hold a password."""
    package_parent = str(Path(framework.utils.errors.__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    ours = {
        URI_VARIABLE: uri,
        "PYTHONPATH": f"{package_parent}{os.pathsep}{path}" if path else package_parent,
        # A `random.py` next to a recipe must not shadow the standard library of this process.
        "PYTHONSAFEPATH": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return {**mlflow_environment(), **ours}


def mlflow_environment() -> dict[str, str]:
    """Return this process's environment with MLflow's telemetry off and short timeouts, unless it sets something else.

    The upload repeats requests without end, so MLflow's own retries (7, up to 4 minutes) are cut to one.
    """
    defaults = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    return {**defaults, **os.environ}


class UploadProcess:
    """The child process that copies this run's journal into MLflow, at low priority and in its own session."""

    def __init__(self, run_folder: Path, *, uri: str) -> None:
        self._run_folder = run_folder
        self._uri = uri
        self._log = run_folder / TRACKING_FOLDER / "upload.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._started_seconds = 0.0
        self._start()

    @property
    def pid(self) -> int | None:
        """The process id; None when it could not be started."""
        return self._process.pid if self._process else None

    def wait(self) -> int | None:
        """Wait for the end of the process, however long that takes, and return its exit code."""
        return self._process.wait() if self._process else None

    def ensure_running(self) -> None:
        """Start the process again if it has died (out of memory, killed by hand), at most once a minute."""
        if self._process and self._process.poll() is None:
            return
        if time.monotonic() - self._started_seconds >= RESTART_SECONDS:
            code = self._process.returncode if self._process else None
            _log.warning("the upload process for %s ended with code %s; starting it again", self._run_folder, code)
            self._start()

    def finish(self, *, wait_seconds: float) -> str | None:
        """Wake the process, wait for it, and return a sentence for the user unless everything is in MLflow."""
        process = self._process
        if process is None:
            return self._sentence("could not be started")
        _wake(process)
        try:
            code = process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            _left_behind.append(process)
            return self._sentence(f"goes on trying for about {LINGER_SECONDS:.0f} s")
        return None if code == COMPLETE else self._sentence(f"ended with code {code}, see {self._log}")

    def _start(self) -> None:
        self._started_seconds = time.monotonic()
        if self._process and self._process.stdin:
            self._process.stdin.close()
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    upload_command(self._run_folder, "--parent", str(os.getpid())),
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C in the terminal is for the trainer.
                    start_new_session=True,
                    cwd=self._log.parent,
                    env=upload_environment(self._uri),
                )
        except OSError as error:
            self._process = None
            _log.warning("no upload to MLflow for now, cannot start its process: %s", error)

    def _sentence(self, state: str) -> str:
        cursor = Cursor.load(self._run_folder, uri=self._uri)
        why = f" ({cursor.problem})" if cursor.problem else ""
        later = shlex.join(["framework", "sync", str(self._run_folder)])
        return (
            f"Not everything is in MLflow at {cursor.uri} yet{why}; the upload process {state}. "
            f"It is all in {self._run_folder / JOURNAL_NAME}; upload later with: {later}"
        )


def _wake(process: subprocess.Popen[bytes]) -> None:
    # A byte and not only the end of file: forked data workers hold a copy of this end of the pipe.
    if process.stdin is None:
        return
    try:
        process.stdin.write(b"\n")
        process.stdin.close()
    except OSError as error:
        _log.debug("the upload process has gone already: %s", error)
