"""The `start` record of a launch, and its parameters as text."""

import getpass
import json
import os
import socket
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from framework.tracking.records import JOURNAL_NAME, JournalState, Record, last_start
from framework.tracking.uri import portable_uri
from framework.utils.leaves import leaves

MAX_PARAM_LENGTH = 6000  # MLflow cuts longer ones silently


def start_fields(state: JournalState, *, experiment: str, run_name: str, uri: str | None, run_folder: Path) -> Record:
    """Return the fields of a `start` record; uid, experiment and name stay those of the first launch.

    A copy of a run that is still in its place becomes another run, or both would write into one run of MLflow.
    """
    known = state.start
    copied = bool(known) and _original(known, run_folder) is not None
    if copied:
        known = {"experiment": known["experiment"]}
    fields = {
        "uid": known.get("uid") or uuid.uuid4().hex,
        "attempt": state.num_attempts + 1,
        "experiment": known.get("experiment", experiment),
        "run_name": known.get("run_name", run_name),
        "uri": portable_uri(uri, run_folder=run_folder) if uri else None,
        "host": socket.gethostname(),
        "user": _user(),
        "pid": os.getpid(),
        "command": sys.argv[0],
        "folder": str(run_folder),
    }
    return fields | ({"copy_of": state.start["uid"]} if copied else {})


def _original(start: Record, run_folder: Path) -> Path | None:
    """Return the folder this run was copied from if that still holds the run; None for a moved run."""
    there = Path(start.get("folder") or run_folder)
    try:
        if there.samefile(run_folder):  # also by another path
            return None
        same = last_start(there / JOURNAL_NAME, missing_ok=True).get("uid") == start["uid"]
    except OSError:  # it is not there, or not for this account
        return None
    return there if same else None


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
