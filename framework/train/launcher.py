"""Adopt what a launcher's configuration asks for besides processes, or refuse it by name; ignore nothing.

`accelerate launch` passes engine, precision and the like in environment variables, after merging its flags with its
configuration file, and may name a DeepSpeed configuration file. They decide wherever this program's own flag was not
given; a flag that contradicts is an error.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from framework.engines.base import Precision
from framework.recipe import EngineName, Recipe
from framework.runtime.launchers import LaunchError, asked_of_accelerate
from framework.train.config import Flags, RunConfig

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


T = TypeVar("T")

PRECISIONS: dict[str, Precision] = {"fp16": "fp16", "bf16": "bf16"}
STAGES: dict[int, EngineName] = {0: "ddp", 1: "zero1", 2: "zero2", 3: "zero3"}
ACCELERATE_S_STAGE = 2
"""The ZeRO stage that Accelerate takes with `--use_deepspeed` and no stage."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A variable of which only some values can be honoured."""

    variable: str
    fine: tuple[str, ...]
    name: str
    """The name of the setting in Accelerate's flags and files."""
    instead: str
    only_with: str | None = None
    """The variable that must be `true` for this one to mean anything; None if it always does."""


FSDP, DEEPSPEED = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
NO, NONE = ("no", "false", "0"), ("none", "no", "")
ALL_ON_THE_DEVICE = "parameters and optimisers stay on the device; use --engine zero3 or fsdp2 on more processes"
REFUSED = (
    Refused(variable="ACCELERATE_DYNAMO_BACKEND", fine=NO, name="dynamo_backend", instead="networks are not compiled"),
    Refused(
        variable="ACCELERATE_MIXED_PRECISION",
        fine=("no", *PRECISIONS),
        name="mixed_precision",
        instead="use bf16, fp16 or no",
    ),
    Refused(
        variable="ACCELERATE_USE_MEGATRON_LM",
        fine=NO,
        name="use_megatron_lm",
        instead="use --use_fsdp --fsdp_version 2, or --use_deepspeed --zero_stage 3",
    ),
    Refused(
        variable="ACCELERATE_USE_PARALLELISM_CONFIG",
        fine=NO,
        name="use_parallelism_config",
        instead="networks are spread by --engine alone",
    ),
    Refused(variable="ACCELERATE_USE_IPEX", fine=NO, name="ipex", instead="leave it out"),
    Refused(variable="ACCELERATE_USE_SAGEMAKER", fine=NO, name="SageMaker", instead="use launch/torchrun/node.sh"),
    Refused(
        variable="FSDP_VERSION",
        fine=("2",),
        name="fsdp_version",
        instead="that is another engine; use --fsdp_version 2",
        only_with=FSDP,
    ),
    Refused(
        variable="FSDP_OFFLOAD_PARAMS", fine=NO, name="fsdp_offload_params", instead=ALL_ON_THE_DEVICE, only_with=FSDP
    ),
    Refused(
        variable="FSDP_RESHARD_AFTER_FORWARD",
        fine=("true",),
        name="fsdp_reshard_after_forward",
        instead="fsdp2 always gives gathered parameters back; use --engine zero2 to keep them",
        only_with=FSDP,
    ),
    Refused(
        variable="FSDP_ACTIVATION_CHECKPOINTING",
        fine=NO,
        name="fsdp_activation_checkpointing",
        instead="use --gradient_accumulation_steps (--micro-batches) to save memory",
        only_with=FSDP,
    ),
    Refused(
        variable="ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
        fine=NONE,
        name="offload_optimizer_device",
        instead=ALL_ON_THE_DEVICE,
        only_with=DEEPSPEED,
    ),
    Refused(
        variable="ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE",
        fine=NONE,
        name="offload_param_device",
        instead=ALL_ON_THE_DEVICE,
        only_with=DEEPSPEED,
    ),
    Refused(
        variable="ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES",
        fine=NONE,
        name="deepspeed_moe_layer_cls_names",
        instead="there are no experts here; leave it out",
        only_with=DEEPSPEED,
    ),
)


def as_launched(flags: Flags) -> tuple[RunConfig, str]:
    """Return the flags, with what the launcher asks for, or the defaults, where they were not given.

    Returns:
        The configuration, and a line that says what was adopted (empty if nothing was).

    Raises:
        LaunchError: a setting cannot be honoured, or contradicts a flag or another setting; the message names them.
    """
    # Refuse what cannot be honoured.
    for one in REFUSED:
        _refuse(one)
    file = DeepSpeedFile.open() if _is_true(DEEPSPEED) else None
    # One value each, from the flag and from everything that the launcher says.
    engine = _settled("--engine", flags.engine, _engines(file))
    precision = _settled("--precision", flags.precision, _precisions(file))
    micro_batches = _settled("--micro-batches", flags.micro_batches, _accumulations(file))
    on_cpu = {"the launcher's use_cpu": "cpu"} if _is_true("ACCELERATE_USE_CPU") else {}
    device = _settled("--device", None if flags.device == "auto" else flags.device, on_cpu)
    # Say what was adopted.
    adopted = [
        f"engine {engine}" if engine and flags.engine is None else "",
        str(precision) if precision and flags.precision is None else "",
        f"{micro_batches} micro-batches" if micro_batches and flags.micro_batches is None else "",
        f"device {device}" if device and flags.device == "auto" else "",
    ]
    told = ", ".join(filter(None, adopted))
    given = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags)}
    given |= {"engine": engine or "ddp", "precision": precision or "fp32", "micro_batches": micro_batches or 1}
    return RunConfig(**given | {"device": device or "auto"}), f"{told}: as launched" if told else ""


def check_clipping(recipe: Recipe) -> None:
    """Refuse a launcher's gradient clipping that is not the recipe's, because clipping changes the result.

    Raises:
        LaunchError: the two differ.
    """
    wished = os.environ.get("ACCELERATE_GRADIENT_CLIPPING", "none")
    if not _is_true(DEEPSPEED) or wished in ("none", "auto", "0.0", "0"):
        return
    if any(player.clip_norm != float(wished) for player in recipe.players.values()):
        raise LaunchError(
            f"the launcher's gradient_clipping {wished} is not the recipe's: leave it out, or add --set "
            f"generator.clip_norm={wished} --set discriminator.clip_norm={wished}"
        )


def _refuse(one: Refused) -> None:
    value = os.environ.get(one.variable)
    if value is None or value.lower() in one.fine or (one.only_with is not None and not _is_true(one.only_with)):
        return
    raise LaunchError(f"the launcher's {one.name} {value.lower()} cannot be honoured: {one.instead}")


def _engines(file: DeepSpeedFile | None) -> dict[str, EngineName]:
    wishes: dict[str, EngineName] = {}
    if _is_true(FSDP):
        wishes["the launcher's FSDP (fsdp2)"] = "fsdp2"
    if _is_true(DEEPSPEED):
        variable = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "none")
        stages = {} if variable.lower() == "none" else {"the launcher's zero_stage": int(variable)}
        if file is not None and file.stage is not None:
            stages[f"{file.path}, zero_optimization.stage"] = file.stage
        for source, stage in (stages or {"the launcher's DeepSpeed, stage": ACCELERATE_S_STAGE}).items():
            if stage not in STAGES:
                raise LaunchError(f"{source} {stage}: ZeRO has the stages 0, 1, 2 and 3")
            wishes[f"{source} {stage} ({STAGES[stage]})"] = STAGES[stage]
    return wishes


def _precisions(file: DeepSpeedFile | None) -> dict[str, Precision]:
    wished = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    wishes = {f"the launcher's mixed_precision {wished}": PRECISIONS[wished]} if wished in PRECISIONS else {}
    if file is not None and file.precision is not None:
        wishes[f"{file.path}, {file.precision}.enabled"] = file.precision
    return wishes


def _accumulations(file: DeepSpeedFile | None) -> dict[str, int]:
    """Find where the launcher asks for more than one micro-batch; one is every launcher's word for none."""
    variable = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "")
    asked = asked_of_accelerate()
    found = {
        "the launcher's gradient_accumulation_steps": int(variable)
        if variable.isdigit()
        else (asked.accumulation if asked is not None else 1)
    }
    if file is not None:
        found[f"{file.path}, gradient_accumulation_steps"] = file.accumulation
    return {f"{source} {steps}": steps for source, steps in found.items() if steps > 1}


def _settled(flag: str, given: T | None, wishes: dict[str, T]) -> T | None:
    """Return the one value that the flag and the launcher's settings name; None if there is none.

    Raises:
        LaunchError: they name different values.
    """
    told = {f"{flag} {given}": given} if given is not None else {}
    everything = [*told.items(), *wishes.items()]
    for source, value in everything[1:]:
        first, expected = everything[0]
        if value != expected:
            raise LaunchError(f"{first} contradicts {source}: leave one of them out")
    return everything[0][1] if everything else None


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("true", "1", "yes")
