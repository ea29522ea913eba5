"""The seam between games and the way a network is spread over processes.

A game builds its losses with the raw `engine.network` and never learns what is sharded. The engine owns four things:
the backward pass, the optimiser step, the residency of parameters while second derivatives run, and named intervals of
the state. Rules that hold for every engine: parameters are fp32 and low precision comes from our own autocast; a
missing gradient counts as zero; a non-finite loss or norm on any process skips the step on all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """A named interval of a player's state, as a live flat view."""

    kind: str
    """`weight` or one of the optimiser's moments."""
    name: str
    """The parameter's name in the network."""
    start: int
    """First element of the interval in the flattened tensor."""
    values: Tensor
    """1-D fp32 view of the interval; writing into it changes the state (then call `commit`)."""
    shape: tuple[int, ...]
    """Shape of the whole tensor."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did, the same on every process."""

    grad_norm: float
    """Global L2 norm of the gradient before clipping."""
    finite: bool
    """False: the step was skipped everywhere."""


class Engine(Protocol):
    """One network and its optimiser under one way of sharding."""

    name: str
    network: nn.Module
    rank: int
    world: int
    collective_forward: bool
    """True when a forward pass, or putting the average into the network, communicates: every process must take part."""

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of forward passes."""
        ...

    def frozen(self) -> AbstractContextManager[nn.Module]:
        """The network with gradients flowing through it but not into its parameters."""
        ...

    def resident(self) -> AbstractContextManager[None]:
        """Parameters stay materialised: needed around any backward with second derivatives."""
        ...

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate gradients; `last` marks the final backward before `step`, whose communication may overlap it."""
        ...

    def step(self, *, lr_factor: float, betas: tuple[float, float] | None = None) -> StepReport:
        """Reduce, vote, clip, update with `lr_factor` times the optimiser's learning rate, and clear the gradients.

        `betas` replaces the optimiser's from this step on.
        """
        ...

    def fragments(self, *, own: bool, kinds: tuple[str, ...] | None = None) -> Iterator[Fragment]:
        """This process's intervals; with `own`, every interval appears on exactly one process."""
        ...

    def steps_taken(self) -> int:
        """Optimiser steps so far (skipped ones not counted)."""
        ...

    def commit(self, *, steps_taken: int | None = None) -> None:
        """Make values written into fragments effective; optionally set the optimiser's step count."""
        ...

    def state(self) -> dict[str, float]:
        """Small state besides tensors (the fp16 loss scale)."""
        ...

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        ...

    def close(self) -> None:
        """Release what the engine holds."""
        ...


def forget_moments(engine: Engine) -> None:
    """Start the optimiser anew: moments become zero, its step count too."""
    for fragment in engine.fragments(own=False):
        if fragment.kind != "weight":
            fragment.values.zero_()
    engine.commit(steps_taken=0)
