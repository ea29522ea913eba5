"""Names that MLflow takes, refused before a run trains under one that can never be uploaded.

The limits are those of MLflow's tables, which PostgreSQL and others enforce; its own checks allow longer experiments.
"""

from __future__ import annotations

import unicodedata

from framework.utils.errors import FrameworkError

MOST_EXPERIMENT, MOST_RUN_NAME, MOST_MODEL = 256, 250, 256
"""Characters (`SqlExperiment.name`, `SqlRun.name`, `SqlRegisteredModel.name`)."""
MOST_DATASET = 500
"""Characters (`SqlDataset.name`); a data set made by others may be called what it likes, so its name is cut."""


def check_experiment(name: str, *, what: str) -> str:
    """Return the name of an experiment.

    Args:
        what: where it comes from, for the message.

    Raises:
        FrameworkError: empty, too long, or with characters that are no text.
    """
    return _checked(name, what=what, most=MOST_EXPERIMENT)


def check_run_name(name: str, *, what: str) -> str:
    """Return the name of a run; as `check_experiment`."""
    return _checked(name, what=what, most=MOST_RUN_NAME)


def check_model_name(name: str, *, what: str) -> str:
    """Return the name of a registered model; as `check_experiment`, and it may hold neither `/` nor `:`."""
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
