"""A small MLflow server over one SQLite file, for this machine only: one worker, no job runner, no telemetry.

`mlflow server` with its defaults runs four workers and a job runner: 15 processes and 2.5 GB. This one takes 2 and
0.5 GB.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from framework.tracking.moved import ARTIFACTS_FOLDER, follow
from framework.tracking.process import mlflow_environment
from framework.utils.errors import FrameworkError

HOST = "127.0.0.1"
START_SECONDS = 180.0
STOP_SECONDS = 10.0
NUM_PORTS_TRIED = 50


def free_port(first: int) -> int:
    """Return the first port from `first` on that nobody listens on.

    Raises:
        FrameworkError: 50 ports were tried and none is free.
    """
    for port in range(first, min(first + NUM_PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            # As servers do: a port whose last owner has just gone counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise FrameworkError(f"no free port between {first} and {first + NUM_PORTS_TRIED - 1}: give another with --port")


@contextlib.contextmanager
def mlflow_server(database: Path, *, port: int, log: Path) -> Iterator[str]:
    """Run a server while the block runs; yield its URL once it answers.

    Args:
        database: the SQLite file; artifacts of experiments made through this server go to `mlflow-artifacts` beside it.
        port: a free port (see `free_port`).
        log: the file for what the server prints.

    Raises:
        FrameworkError: the server ended, or did not answer within 3 minutes.
    """
    follow(database)
    url = f"http://{HOST}:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{database}"),
        *("--artifacts-destination", str(database.parent / ARTIFACTS_FOLDER)),
    ]
    environment = {**mlflow_environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=database.parent,
            env=environment,
        )
    try:
        _wait_until_up(process, url=url, log=log)
        yield url
    finally:
        _stop(process)


def _wait_until_up(process: subprocess.Popen[bytes], *, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    # Clusters set http_proxy; a proxy cannot reach this machine's own 127.0.0.1.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
            raise FrameworkError(f"mlflow server ended with code {process.returncode}: {last} (all of it: {log})")
        with contextlib.suppress(OSError):
            with direct.open(f"{url}/health", timeout=5):
                pass
            # MLflow imports a module in its first search, and answers others with 500 while it does: the first is ours.
            with direct.open(_search(url), timeout=START_SECONDS):
                return
        time.sleep(0.2)
    raise FrameworkError(f"mlflow server did not answer at {url} within {START_SECONDS:.0f} s; its output: {log}")


def _search(url: str) -> urllib.request.Request:
    """Return a search for one run of the first experiment, which every store has."""
    body = json.dumps({"experiment_ids": ["0"], "max_results": 1}).encode()
    return urllib.request.Request(
        f"{url}/api/2.0/mlflow/runs/search", data=body, headers={"Content-Type": "application/json"}
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, which share its session."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return
