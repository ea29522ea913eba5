"""The interface between games and the way a network is spread over processes.

A game builds its losses with the raw `engine.network` and does not know what is sharded. The engine owns four things:
the backward pass, the optimiser step, keeping parameters gathered while second derivatives run, and named intervals of
the state. Rules that hold for every engine: parameters are fp32 and low precision comes from our own autocast; a
missing gradient counts as zero; a non-finite loss or norm on any process skips the step on all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class ParameterSlice:
    """A named interval of one tensor of a player's state, as a live flat view."""

    kind: str
    """The kind of tensor: `weight`, or the name of one of the optimiser's moments."""
    name: str
    """The parameter's name in the network."""
    start: int
    """The index of the interval's first element in the flattened tensor."""
    values: Tensor
    """The interval, a view (n,) in fp32; after writing into it, call `commit`."""
    shape: tuple[int, ...]
    """The shape of the whole tensor."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The result of a step, the same on every process."""

    grad_norm: float
    """The L2 norm of the whole averaged gradient, before clipping."""
    finite: bool
    """Whether the step was taken; where it is False, every process skipped it."""


class Engine(Protocol):
    """One network and its optimiser under one way of sharding."""

    name: str
    network: nn.Module
    rank: int
    world: int
    collective_forward: bool
    """Whether every process must take part in a forward pass, or in putting the average into the network."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return the autocast context of forward passes."""
        ...

    def frozen(self) -> AbstractContextManager[nn.Module]:
        """Yield the network with gradients flowing through it but not into its parameters."""
        ...

    def resident(self) -> AbstractContextManager[None]:
        """Keep all parameters gathered inside the block, as any backward with second derivatives needs."""
        ...

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate gradients.

        Args:
            loss: the loss of one micro-batch, a scalar () that is not scaled.
            last: mark the final backward before `step`; communication may then overlap it.
        """
        ...

    def begin_turn(self) -> None:
        """Clip weights before the first forward pass for a step of this player, if it clips them there."""
        ...

    def step(self, *, lr_factor: float, hyperparameters: Mapping[str, Any] | None = None) -> StepReport:
        """Reduce, vote, clip, update, clip weights, and clear the gradients.

        Args:
            lr_factor: factor on the optimiser's learning rate.
            hyperparameters: entries of torch's `param_groups` that replace the optimiser's from this step on; see
                `Optimizer.hyperparameters_at`.
        """
        ...

    def slices(self, *, own: bool, kinds: tuple[str, ...] | None = None) -> Iterator[ParameterSlice]:
        """Yield this process's intervals of the state.

        Args:
            own: yield every interval on exactly one process, although several may hold it.
            kinds: the kinds of tensors wanted; None for the weights and all moments.
        """
        ...

    def steps_taken(self) -> int:
        """Return the number of optimiser steps so far, skipped ones not counted."""
        ...

    def commit(self, *, steps_taken: int | None = None) -> None:
        """Make values written into slices effective; optionally set the optimiser's step count."""
        ...

    def state(self) -> dict[str, float]:
        """Return the small state besides tensors, which is the fp16 loss scale."""
        ...

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        ...

    def close(self) -> None:
        """Release what the engine holds, such as buffers and hooks."""
        ...


def forget_moments(engine: Engine) -> None:
    """Start the optimiser anew: moments become zero, its step count too."""
    for parameter_slice in engine.slices(own=False):
        if parameter_slice.kind != "weight":
            parameter_slice.values.zero_()
    engine.commit(steps_taken=0)
