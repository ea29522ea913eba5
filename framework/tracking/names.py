"""Checks of names before a run trains under one that MLflow can never take.

The limits are those of MLflow's tables, which PostgreSQL and others enforce; its own checks allow longer experiments.
"""

from __future__ import annotations

import unicodedata

from framework.utils.errors import FrameworkError

MOST_EXPERIMENT, MOST_RUN_NAME, MOST_MODEL = 256, 250, 256
"""Most characters of `SqlExperiment.name`, `SqlRun.name` and `SqlRegisteredModel.name`."""
MOST_DATASET = 500
"""Most characters of `SqlDataset.name`; a longer name is cut, because the data set may be made by others."""


def check_experiment(name: str, *, what: str) -> str:
    """Return `name` if it can be an experiment's.

    Args:
        what: where the name comes from, for the message.

    Raises:
        FrameworkError: the name is empty, too long, or holds control characters.
    """
    return _checked(name, what=what, most=MOST_EXPERIMENT)


def check_run_name(name: str, *, what: str) -> str:
    """Return `name` if it can be a run's; raises as `check_experiment` does."""
    return _checked(name, what=what, most=MOST_RUN_NAME)


def check_model_name(name: str, *, what: str) -> str:
    """Return `name` if it can be a registered model's.

    Raises:
        FrameworkError: as `check_experiment`, and for a name that holds `/` or `:`, or is `.` or `..`.
    """
    if {"/", ":"} & set(name) or name in (".", ".."):
        raise FrameworkError(f"{what} {name!r}: MLflow's names of models hold no / or :, and are not . or ..")
    return _checked(name, what=what, most=MOST_MODEL)


def _checked(name: str, *, what: str, most: int) -> str:
    if not name.strip():
        raise FrameworkError(f"{what} {name!r}: must not be empty")
    if len(name) > most:
        raise FrameworkError(f"{what} {name[:20]}...: has {len(name)} characters, MLflow takes {most}")
    # Control characters (Cc) and halves of surrogate pairs (Cs), which stand for bytes that are no UTF-8.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise FrameworkError(f"{what} {name!r}: must be text without control characters")
    return name
