"""The state of a torch optimiser as every engine reads and writes it: moments, step counts, and what a schedule sets.

Torch creates this state in an optimiser's first step, but a checkpoint may be read or written before it. Not every
optimiser of torch counts its steps, so they are counted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from framework.engines.optimizer_trial import begin, try_out
from framework.recipe.optimizers import Optimizer


class OptimizerState:
    """The state of one player's optimiser on one process.

    Args:
        spec: the recipe's optimiser.
        optimizer: torch's, built from it.
        parameters: all tensors of any shapes that torch's optimiser updates, possibly DTensors.

    Attributes:
        steps_taken: number of steps so far: one number, because a missing gradient counts as zero.

    Raises:
        EngineError: the optimiser remembers what a checkpoint would lack; see `try_out`.
    """

    def __init__(self, spec: Optimizer, optimizer: torch.optim.Optimizer, parameters: Iterable[Any]) -> None:
        self._spec, self._optimizer, self._parameters = spec, optimizer, list(parameters)
        self._counts_steps = try_out(spec).counts_steps
        self.steps_taken = 0

    def of(self, parameter: Any) -> dict[str, Any]:
        """Return the live state of one parameter; before the first step it is created as torch would create it."""
        state: dict[str, Any] = self._optimizer.state[parameter]
        moments = self._spec.moments
        if any(moment not in state for moment in moments) or (self._counts_steps and "step" not in state):
            begin(state, parameter, moments=moments, counts_steps=self._counts_steps)
        return state

    def create(self) -> None:
        """Create the state of every parameter where it is missing."""
        for parameter in self._parameters:
            self.of(parameter)

    def set_steps_taken(self, steps: int) -> None:
        """Set the number of steps, in the state of every parameter too where torch's optimiser counts them."""
        self.steps_taken = steps
        for parameter in self._parameters:
            state = self.of(parameter)
            if self._counts_steps:
                state["step"] = torch.tensor(float(steps))

    def set_schedule(self, *, lr_factor: float, hyperparameters: Mapping[str, Any] | None) -> None:
        """Set the learning rate, and what else moves with the clock unless it is None, from the next step on."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._spec.lr * lr_factor
            group.update(hyperparameters or {})
