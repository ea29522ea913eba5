"""What a launch of a run says about itself in the journal, and how its parameters are written."""

import getpass
import json
import os
import socket
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from framework.leaves import leaves
from framework.tracking.records import JournalState, Record
from framework.tracking.uri import portable_uri

MAX_PARAM_LENGTH = 6000  # MLflow cuts longer ones silently


def start_fields(state: JournalState, *, experiment: str, run_name: str, uri: str | None, run_folder: Path) -> Record:
    """Return the fields of a `start` record; uid, experiment and name are the run's own from its first launch on."""
    return {
        "uid": state.start.get("uid") or uuid.uuid4().hex,
        "attempt": state.num_attempts + 1,
        "experiment": state.start.get("experiment", experiment),
        "run_name": state.start.get("run_name", run_name),
        "uri": portable_uri(uri, run_folder=run_folder) if uri else None,
        "host": socket.gethostname(),
        "user": _user(),
        "pid": os.getpid(),
        "command": sys.argv[0],
    }


def flat_params(values: Mapping[str, object]) -> dict[str, str]:
    """Return nested parameters under dotted names, as text."""
    flat: dict[str, str] = {}
    for name, value in leaves(values, lists=False):
        text = json.dumps(value, default=str) if isinstance(value, (list, tuple)) else str(value)
        flat[name] = text[:MAX_PARAM_LENGTH]
    return flat


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user id has no name
        return str(os.getuid())
