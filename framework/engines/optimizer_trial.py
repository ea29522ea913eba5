"""Try a recipe's optimiser on a few numbers: whether engines can shard it and checkpoints hold all it remembers.

Anybody may write an optimiser, and what it gets wrong would show only in a run that was resumed or sharded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from framework.engines.errors import EngineError
from framework.recipe.optimizers import Optimizer

TAKEN = ("weight", "ema", "buffer", "ema_buffer")
"""Kinds of tensors in a checkpoint, which no moment may be named after."""
TOLERANCE = 1e-12
"""The largest relative difference, in fp64, of steps that are the same: some roundings."""
WEIGHTS = (1.0, -2.0, 0.5, 3.0, -0.25, 4.0)
GRADIENTS = (0.3, -0.1, 2.0, 0.7, -1.5, 0.01)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was found out about an optimiser."""

    counts_steps: bool
    """Whether torch's optimiser keeps `step` beside the moments."""
    elementwise: bool
    """Whether every number moves by itself, wherever tensors are cut; needed to shard them."""


def try_out(spec: Optimizer) -> Trial:
    """Take steps on six numbers.

    Raises:
        EngineError: the optimiser remembers something that a checkpoint would lack, or sets what torch's has not.
    """
    name = type(spec).__name__
    (whole,), (state,), groups = _stepped(spec, [(2, 3)])
    # The names of what it remembers.
    counts_steps = "step" in state
    others = sorted(key for key in state if key not in spec.moments and key != "step")
    missing = [moment for moment in spec.moments if getattr(state.get(moment), "shape", None) != (2, 3)]
    taken = [moment for moment in spec.moments if moment in TAKEN]
    if others:
        raise EngineError(
            f"{name} keeps {', '.join(others)}, which its `moments` do not name and a resumed run would lack: name "
            "tensors of the parameter's shape in `moments`, and compute the rest from them and `step`"
        )
    if missing or taken:
        raise EngineError(
            f"{name}: moments={spec.moments} must name tensors of the parameter's shape in the state of torch's "
            f"optimiser, and not {', '.join(missing or taken)}"
        )
    # A checkpoint that is written before the first step has zeros in it.
    (begun,), _, _ = _stepped(spec, [(2, 3)], moments=spec.moments, counts_steps=counts_steps)
    if not _same(whole, begun):
        raise EngineError(f"{name}: its moments must begin at 0, as in a run that starts its optimiser anew")
    # What the clock sets must be there to be set.
    unknown = sorted({*spec.hyperparameters_at(0)} - ({*groups} - {"params", "lr"}))
    if unknown:
        raise EngineError(
            f"{name}: hyperparameters_at sets {', '.join(unknown)}, which torch's optimiser does not take; it takes "
            f"{', '.join(sorted({*groups} - {'params', 'lr'}))}, and the player's schedule sets lr"
        )
    pieces, _, _ = _stepped(spec, [(4,), (2,)])
    return Trial(counts_steps=counts_steps, elementwise=_same(whole.flatten(), torch.cat(pieces)))


def _stepped(
    spec: Optimizer, shapes: Sequence[tuple[int, ...]], *, moments: tuple[str, ...] = (), counts_steps: bool = False
) -> tuple[list[Tensor], list[dict[str, Any]], dict[str, Any]]:
    """Return parameters of these shapes, six numbers together, and their state after one step, and the group's options.

    Args:
        moments: moments to create before the step, as zeros.
        counts_steps: whether to create a step count of 0, too.
    """
    sizes = [torch.Size(shape).numel() for shape in shapes]
    weights = torch.tensor(WEIGHTS, dtype=torch.float64).split(sizes)
    gradients = torch.tensor(GRADIENTS, dtype=torch.float64).split(sizes)
    parameters = [nn.Parameter(w.reshape(shape)) for w, shape in zip(weights, shapes, strict=True)]
    optimizer = spec.build(iter(parameters))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.view_as(parameter)
        if moments or counts_steps:
            begin(optimizer.state[parameter], parameter, moments=moments, counts_steps=counts_steps)
    optimizer.step()
    states = [dict(optimizer.state.get(parameter, {})) for parameter in parameters]
    return [parameter.detach() for parameter in parameters], states, optimizer.param_groups[0]


def begin(state: dict[str, Any], parameter: Any, *, moments: tuple[str, ...], counts_steps: bool) -> None:
    """Create an empty state as torch would: zeros for every moment, and a step count of 0 where there is one."""
    if counts_steps:
        state["step"] = torch.tensor(0.0)
    for moment in moments:
        state[moment] = torch.zeros_like(parameter)


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=TOLERANCE, atol=0.0)
