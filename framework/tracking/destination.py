"""The rules for what may leave this machine and where it may go; anybody may have written a run folder.

Only files inside the run folder are uploaded. The user chooses the server by a flag or by MLflow's own variable, else
it is the database beside the run folder. The journal may propose another one, which is used if the user agrees.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from framework.tracking.environment import URI, reachable
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.tracking.uri import check_uri, embedded_uri, redact, sqlite_path
from framework.utils.errors import FrameworkError


class OutsideError(ValueError):
    """A record or checkpoint names a file that does not belong to the run; the message names the file."""


def inside(run_folder: Path, name: object) -> Path:
    """Return the resolved path of a file that a run names, relative to its folder.

    Raises:
        OutsideError: the name is no file's, or leads (also through links) out of the folder or to no regular file.
        FileNotFoundError: the file is gone.
    """
    try:
        path = (run_folder / str(name)).resolve(strict=True)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a name with NUL or too long
        raise OutsideError(f"{name!r} is no file of {run_folder}: {error}") from None
    if not path.is_relative_to(run_folder.resolve()):
        raise OutsideError(f"{name!r} lies outside the run folder {run_folder} and is not uploaded")
    if not path.is_file():
        raise OutsideError(f"{name!r} of {run_folder} is no regular file and is not uploaded")
    return path


def is_chosen(uri: str, *, run_folder: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a recorded URI is also the user's: the database beside the run, or the environment's server."""
    named = environment.get(URI)
    return uri == embedded_uri(run_folder.parent) or (named is not None and redact(named) == redact(uri))


def destination(
    run_folder: Path,
    *,
    given: str | None,
    recorded: bool = False,
    ask: Callable[[str], bool] = lambda question: False,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Return the URI of the MLflow store that a run is uploaded to.

    Args:
        run_folder: the run's folder.
        given: the user's URI, if any; else MLFLOW_TRACKING_URI counts.
        recorded: the user accepts the URI that the run was last trained with, whatever it is.
        ask: asks the user a question with the answers yes (True) and no (False).
        environment: the variables, MLFLOW_TRACKING_URI among them.

    Raises:
        FrameworkError: the user has chosen no URI, its password is not known, or MLflow has no such kind of store.
    """
    named = environment.get(URI)
    if given or (named and not recorded):
        return check_uri(str(given or named))
    uri = last_start(run_folder / JOURNAL_NAME)["uri"]
    if uri is None:
        raise FrameworkError(
            f"{run_folder} was trained without MLflow: give the address of a store, for example "
            f"{shlex.join(['--uri', embedded_uri(run_folder.parent)])}"
        )
    uri = check_uri(reachable(str(uri)))
    if recorded or is_chosen(uri, run_folder=run_folder, environment=environment):
        return uri
    where = f"the database {sqlite_path(uri)}" if sqlite_path(uri) else redact(uri)
    if ask(f"{run_folder} says that it belongs to {where}. Upload it there?"):
        return uri
    raise FrameworkError(
        f"the journal of {run_folder} names {where}, which anybody may have written: give "
        f"{shlex.join(['--uri', redact(uri)])} or --recorded, or set {URI}"
    )
