"""The state of a torch optimiser as every engine reads and writes it: moments, step counts, and what a schedule sets.

Torch creates this state in an optimiser's first step, but a checkpoint may be read or written before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def state_of(optimizer: torch.optim.Optimizer, parameter: Any, *, moments: tuple[str, ...]) -> dict[str, Any]:
    """Return the live state of one parameter; before the first step it is created as torch would create it.

    Args:
        parameter: a tensor of any shape that the optimiser updates, possibly a DTensor.
        moments: names of the tensors of the parameter's shape that the optimiser keeps, see `Optimizer.moments`.
    """
    state: dict[str, Any] = optimizer.state[parameter]
    if "step" not in state:
        state["step"] = torch.tensor(0.0)
        for moment in moments:
            state[moment] = torch.zeros_like(parameter)
    return state


def steps_taken(optimizer: torch.optim.Optimizer) -> int:
    """Return how many steps the optimiser has taken: one number, because a missing gradient counts as zero."""
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)


def set_steps_taken(
    optimizer: torch.optim.Optimizer, parameters: Iterable[Any], *, moments: tuple[str, ...], steps: int
) -> None:
    """Set the step count of every parameter, creating its state if there is none yet.

    Args:
        parameters: all tensors that the optimiser updates.
        moments: as in `state_of`.
    """
    for parameter in parameters:
        state_of(optimizer, parameter, moments=moments)["step"] = torch.tensor(float(steps))


def set_schedule(optimizer: torch.optim.Optimizer, *, lr: float, betas: tuple[float, float] | None) -> None:
    """Set the learning rate and, unless it is None, the pair of betas from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if betas is not None:
            group["betas"] = betas
