"""The store and the names under which a run is tracked: from flags, else MLflow's variables, else the run's own.

A run keeps the experiment and the name of its first launch, because MLflow finds it there by its identity. Its store
may change (everything is sent to the new one), but only by a flag or the variable: without them, a resume goes on with
the store of the previous launch.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from framework.tracking.names import check_experiment, check_run_name
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.tracking.uri import check_uri, embedded_uri, is_redacted, redact
from framework.utils.errors import FrameworkError
from framework.utils.redaction import redact_text

URI, EXPERIMENT, RUN_NAME = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_NAME"
UNUSED = {
    "MLFLOW_EXPERIMENT_ID": f"a run goes to an experiment by its name: --experiment or {EXPERIMENT}",
    "MLFLOW_RUN_ID": "the run folder (--out) says which run is continued",
}
"""Variables that MLflow's own client follows and training does not -> what to use instead."""

DEFAULT, NONE = "default", "none"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The user's choices by flags and variables; None where neither is given.

    Attributes:
        tracking: a checked URI, `default` (the database beside the run folder) or `none`.
        experiment: MLflow experiment.
        run_name: what MLflow's list of runs shows.
        unused: a sentence for each variable that is set and not followed.
    """

    tracking: str | None = None
    experiment: str | None = None
    run_name: str | None = None
    unused: tuple[str, ...] = ()


def wishes(
    *,
    tracking: str | None = None,
    experiment: str | None = None,
    run_name: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Wishes:
    """Return what flags and variables ask for; an empty variable counts as not set.

    Args:
        tracking: the value of `--tracking`.
        experiment: the value of `--experiment`.
        run_name: the value of `--run-name`.
        environment: variables to read; default: those of this process.

    Raises:
        FrameworkError: MLflow could not take a value; the message names its flag or variable.
    """
    given = os.environ if environment is None else environment
    unused = tuple(f"{name} is not used: {instead}" for name, instead in UNUSED.items() if given.get(name))
    return Wishes(
        tracking=_store("--tracking", tracking) if tracking is not None else _store(URI, given.get(URI) or None),
        experiment=_name(check_experiment, ("--experiment", experiment), (EXPERIMENT, given.get(EXPERIMENT) or None)),
        run_name=_name(check_run_name, ("--run-name", run_name), (RUN_NAME, given.get(RUN_NAME) or None)),
        unused=unused,
    )


def store_uri(wished: str | None, *, run_folder: Path) -> str | None:
    """Return the URI of the store of a launch; None without one.

    Args:
        wished: `Wishes.tracking`.
        run_folder: the folder of a new or resumed run.

    Raises:
        FrameworkError: nothing is wished for, and the password of the previous launch's store is not known.
    """
    if wished == NONE:
        return None
    if wished is not None and wished != DEFAULT:
        return wished
    journal = run_folder / JOURNAL_NAME
    before = last_start(journal, missing_ok=True).get("uri") if wished is None else None
    if before is None:
        return embedded_uri(run_folder.parent)
    if is_redacted(before):
        raise FrameworkError(
            f"this run is tracked at {before}, whose password is not kept in the run: give the whole URI in {URI} or "
            "with --tracking, or use the journal alone (--tracking none)"
        )
    return check_uri(before)


def reachable(uri: str) -> str:
    """Return the URI to connect to: the recorded one, with its password from MLFLOW_TRACKING_URI if it needs one.

    Raises:
        FrameworkError: the password is needed and not known.
    """
    if not is_redacted(uri):
        return uri
    given = os.environ.get(URI, "")
    if redact(given) == uri:
        return given
    raise FrameworkError(f"the password of {uri} is not kept in the run: give the whole URI in {URI}, or with --uri")


def _store(source: str, value: str | None) -> str | None:
    if value is None or (source != URI and value in (DEFAULT, NONE)):
        return value
    try:
        return check_uri(value)
    except ValueError as error:
        raise FrameworkError(f"{source} {redact_text(value)}: {error}") from None


def _name(check: Callable[..., str], *sources: tuple[str, str | None]) -> str | None:
    """Return the first name that was given, checked; None without one."""
    for what, value in sources:
        if value is not None:
            return check(value, what=what)
    return None
