"""Read the DeepSpeed configuration file that a launcher names: adopt what is possible, and refuse the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.engines.base import Precision
from framework.runtime.launchers import LaunchError

VARIABLE = "ACCELERATE_DEEPSPEED_CONFIG_FILE"
HALVES: tuple[Precision, ...] = ("bf16", "fp16")
ADOPTED = {"zero_optimization.stage", "gradient_accumulation_steps", *(f"{half}.enabled" for half in HALVES)}
OPEN = ("auto", "none", None)
"""The values that leave the choice to the program."""


@dataclass(frozen=True, kw_only=True)
class DeepSpeedFile:
    """The settings in a file that are flags of this program."""

    path: str
    stage: int | None
    precision: Precision | None
    accumulation: int

    @classmethod
    def open(cls) -> DeepSpeedFile | None:
        """Read the file that the launcher names; None if it names none.

        Raises:
            LaunchError: it cannot be read, or says what cannot be honoured; the message names the keys.
        """
        path = os.environ.get(VARIABLE, "None")
        if path.lower() == "none":
            return None
        try:
            told = dict(_leaves(json.loads(Path(path).read_text())))
        except (OSError, ValueError, AttributeError) as error:
            raise LaunchError(f"the launcher's DeepSpeed configuration {path} cannot be read: {error}") from None
        stage = _number(told.get("zero_optimization.stage"))
        _refuse_the_rest(path, told, stage=2 if stage is None else stage)
        halves = [half for half in HALVES if told.get(f"{half}.enabled") is True]
        return cls(
            path=path,
            stage=stage,
            precision=halves[0] if halves else None,
            accumulation=_number(told.get("gradient_accumulation_steps")) or 1,
        )


def _refuse_the_rest(path: str, told: dict[str, Any], *, stage: int) -> None:
    from framework.engines.zero import configuration  # imports no DeepSpeed

    ours = dict(_leaves(configuration(stage)))
    off = tuple(f"{key.removesuffix('enabled')}" for key, value in told.items() if _is_off(key, value))
    rest = [
        key
        for key, value in told.items()
        if key not in ADOPTED and value not in OPEN and ours.get(key, OPEN) != value and not key.startswith(off)
    ]
    if rest:
        raise LaunchError(
            f'{path} asks for {", ".join(sorted(rest))}, which cannot be honoured: leave it out or write "auto" '
            f"(launch/deepspeed/zero{stage or 2}.json is what the engine passes)"
        )


def _is_off(key: str, value: object) -> bool:
    """Return whether a key switches off its section, so that nothing else in it counts."""
    return key.endswith(".enabled") and value is False


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
