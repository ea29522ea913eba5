"""What may leave this machine, and where to: a run folder may come from anybody, and its journal is only text.

Files are uploaded from inside the run folder only. The server is the user's choice: a flag, MLflow's own variable, or
the database beside the run folder. The journal may propose another one, which is taken when the user agrees.
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
    """A run's record or checkpoint names a file that is none of the run's; the message names it."""


def inside(run_folder: Path, name: object) -> Path:
    """Return the resolved path of a file that a run names, relative to its folder.

    Raises:
        OutsideError: after links are followed it lies outside the folder, it is no regular file, or no name at all.
        FileNotFoundError: it is gone.
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
    """Return the MLflow URI that a run is to be uploaded to.

    Args:
        run_folder: of the run.
        given: the user's URI, if any; else MLFLOW_TRACKING_URI counts.
        recorded: the user takes the one that the run was last trained with, whatever it is.
        ask: puts a question to the user; False is no.
        environment: where the variable is looked up.

    Raises:
        FrameworkError: nobody has chosen one, or its password is needed and not known.
    """
    named = environment.get(URI)
    if given or (named and not recorded):
        return check_uri(str(given or named))
    uri = last_start(run_folder / JOURNAL_NAME)["uri"]
    if uri is None:
        raise FrameworkError(
            f"{run_folder} was trained without MLflow: say where it shall go, for example "
            f"{shlex.join(['--uri', embedded_uri(run_folder.parent)])}"
        )
    uri = check_uri(reachable(str(uri)))
    if recorded or is_chosen(uri, run_folder=run_folder, environment=environment):
        return uri
    where = f"the database {sqlite_path(uri)}" if sqlite_path(uri) else redact(uri)
    if ask(f"{run_folder} says that it belongs to {where}. Upload it there?"):
        return uri
    raise FrameworkError(
        f"where shall {run_folder} go? Its journal names {where}, which anybody may have written: give "
        f"{shlex.join(['--uri', redact(uri)])} or --recorded, or set {URI}"
    )
