"""What a launcher's configuration asks for besides processes: refused where this launch would do something else.

Accelerate's configurations can name an engine, a DeepSpeed file and a precision, which reach us as variables. Here,
engine and precision are flags (`--engine`, `--precision`), so a configuration that says otherwise would be ignored in
silence.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from framework.recipe import SIDES, Recipe
from framework.runtime.session import LaunchError
from framework.train.config import RunConfig

PRECISIONS = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}


def check_launcher(recipe: Recipe, config: RunConfig) -> None:
    """Compare the launcher's wishes with this launch's flags.

    Raises:
        LaunchError: they differ; naming the flag.
    """
    engines = {getattr(recipe, side).engine or config.engine for side in SIDES}
    if _asked("ACCELERATE_USE_FSDP") and "fsdp2" not in engines:
        raise LaunchError(f"the launcher's configuration asks for FSDP, {_but(engines)}: add --engine fsdp2, {_OR}")
    if _asked("ACCELERATE_USE_DEEPSPEED"):
        _check_deepspeed({engine for engine in engines if engine.startswith("zero")}, engines)
    wished = PRECISIONS.get(os.environ.get("ACCELERATE_MIXED_PRECISION", "no"))
    if wished != config.precision and wished != "fp32":
        raise LaunchError(
            f"the launcher's configuration asks for mixed_precision {wished}, but this launch has --precision "
            f"{config.precision}: precision is a flag here, the configuration's must be 'no'"
        )


_OR = "or use a configuration without it (launch/accelerate/one_node.yaml)"


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"


def _but(engines: set[str]) -> str:
    return f"but this launch has --engine {' and '.join(sorted(engines))}"


def _check_deepspeed(zero: set[str], engines: set[str]) -> None:
    if not zero:
        raise LaunchError(
            f"the launcher's configuration asks for DeepSpeed, {_but(engines)}: add --engine zero1, zero2 or zero3, "
            f"{_OR}"
        )
    from framework.engines.zero import configuration  # imports no DeepSpeed

    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "None")
    stages = {engine: int(engine[-1]) for engine in zero}
    if file == "None":
        wished = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "None")
        if wished not in ("None", *map(str, stages.values())):
            raise LaunchError(f"the launcher's configuration asks for ZeRO stage {wished}, {_but(engines)}")
        return
    try:
        written: dict[str, Any] = json.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise LaunchError(f"the launcher's DeepSpeed configuration {file} cannot be read: {error}") from None
    differing = {engine: _differing(configuration(stage), written) for engine, stage in stages.items()}
    if all(differing.values()):
        engine, keys = min(differing.items(), key=lambda item: len(item[1]))
        raise LaunchError(
            f"{file} is not what --engine {engine} passes to DeepSpeed (differing: {', '.join(keys)}): each player has "
            f"an engine of its own, built from its recipe; use launch/deepspeed/{engine}.json, and --set, --precision "
            "and --micro-batches for what it leaves out"
        )


def _differing(ours: dict[str, Any], written: dict[str, Any], *, prefix: str = "") -> list[str]:
    """Paths of the leaves that differ or that only one side has."""
    found = []
    for key in sorted({*ours, *written}):
        a, b = ours.get(key), written.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differing(a, b, prefix=f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found
