"""The capabilities and the refusals of the engines, as data that `choose.check` looks up.

Every penalty with every normalisation trains on every engine, in every precision, as on one process, except what
`REFUSALS` names. `tests/parity/test_engine_capabilities.py` plays games that have each of them once; the whole product,
1440 games, takes a quarter of an hour: `python -m benchmarks.engine_matrix --capabilities`, whose output is in
`benchmarks/results`. Every optimiser trains on every engine, too: `tests/parity/test_engine_optimizers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from framework.engines.base import Precision
from framework.recipe import EngineName

ENGINES: tuple[EngineName, ...] = ("ddp", "zero1", "zero2", "zero3", "fsdp2")
SHARDING: tuple[EngineName, ...] = ("zero1", "zero2", "zero3", "fsdp2")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")

PENALTIES = (
    "none",
    "R1 joined",
    "R1 lazy",
    "R2",
    "FirstOrderR1",
    "GradientPenalty",
    "MaxGradientPenalty",
    "Dragan",
    "LeCam",
    "Drift",
    "Orthogonal",
    "PathLength",
    "WeightDecay",
    "Consistency",
)
"""Classes of `framework.objectives`; a penalty is `joined` in the loss of the turn, or `lazy` in a step of its own."""

NORMALISATIONS = (
    "none",
    "spectral norm",
    "batch norm",
    "conditional batch norm",
    "pixel norm",
    "AdaIN",
    "weight demodulation",
    "minibatch deviation",
)
"""Batch statistics are those of all processes; `statistics="local"` trains too, but is another game on another number
of processes, whatever the engine."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request to one player's engine."""

    engine: EngineName
    precision: Precision
    world: int
    device_has_bf16: bool = True
    frozen: tuple[str, ...] = ()
    """The beginnings of the names of parameters that are not trained."""
    scalars: tuple[str, ...] = ()
    """The names of parameters without any axis."""
    whole_tensors: str | None = None
    """The name of an optimiser that must see whole tensors: what happens to a number depends on others."""
    looked_ahead: bool = False
    """Whether the game takes this player's optimiser steps as functions."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A thing that some engines cannot do."""

    engines: tuple[EngineName, ...]
    when: Callable[[Case], bool]
    sentence: str
    """The sentence that says what is wrong and what to do; `{engine}`, `{frozen}`, `{scalars}` and `{optimizer}`
    are filled in."""

    def applies(self, case: Case) -> bool:
        """Return whether this refusal is about the case."""
        return case.engine in self.engines and self.when(case)

    def words(self, case: Case) -> str:
        """Return the sentence, filled in for this case."""
        return self.sentence.format(
            engine=case.engine,
            frozen=", ".join(case.frozen),
            scalars=", ".join(case.scalars),
            optimizer=case.whole_tensors,
        )


REFUSALS = (
    Refusal(
        engines=SHARDING,
        when=lambda case: case.world == 1,
        sentence="{engine} shards over the processes of a launch, and this is one process; use --engine ddp, or start "
        "more with accelerate launch or torchrun",
    ),
    Refusal(
        engines=ENGINES,
        when=lambda case: case.precision == "bf16" and not case.device_has_bf16,
        sentence="this GPU has no bf16; use --precision fp16 or fp32",
    ),
    # Neither keeps a parameter without gradients in its flat pieces, so that checkpoints would lack it.
    Refusal(
        engines=("zero3", "fsdp2"),
        when=lambda case: bool(case.frozen),
        sentence="{engine} does not keep parameters that are not trained (frozen={frozen}); use --engine zero2 or ddp "
        "for this player",
    ),
    Refusal(
        engines=("fsdp2",),
        when=lambda case: bool(case.scalars),
        sentence="fsdp2 cuts parameters along their first axis, and {scalars} has none; give it one element, "
        "torch.zeros(1), or use --engine zero3",
    ),
    Refusal(
        engines=SHARDING,
        when=lambda case: case.whole_tensors is not None,
        sentence="{engine} cuts tensors, and a step of {optimizer} depends on whole ones; use --engine ddp for this "
        "player, or an optimiser that moves every number by itself",
    ),
    Refusal(
        engines=("zero1", "zero2", "zero3"),
        when=lambda case: case.looked_ahead,
        sentence="this game looks ahead through the player's optimiser, which has not been shown on {engine}; use "
        "--engine ddp or fsdp2",
    ),
    Refusal(
        engines=ENGINES,
        when=lambda case: case.looked_ahead and case.precision == "fp16",
        sentence="this game looks ahead through the player's optimiser, and gradients in between are not scaled; use "
        "--precision bf16 or fp32",
    ),
)
"""All refusals, in the order in which they are looked up."""


def refusal(case: Case) -> str | None:
    """Return why this case is refused, with the alternative named, or None if it works."""
    return next((entry.words(case) for entry in REFUSALS if entry.applies(case)), None)
