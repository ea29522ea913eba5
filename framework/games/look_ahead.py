"""A player's network and its optimiser as pure functions, for a turn that looks ahead (arXiv:1611.02163, section 2.2).

The steps ahead are those that the player would take: from its weights and its moments, with its optimiser and its
learning rate. They change nothing, gradients flow through all of them, and they descend the loss of the global batch:
a process that stepped along the loss of its own samples would see another future on another number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from framework.engines.whole import whole_tensors
from framework.games.forward import Forward
from framework.networks.draw import stochastic_inputs
from framework.recipe.optimizers import LookAheadOptimizer
from framework.runtime.collectives import num_processes, sum_over_processes


class LookAhead:
    """One player, some steps ahead of itself (a collective where its engine shards it).

    Args:
        forward: the micro-batch, which must be the whole global batch's part of this process.
        player: the name of the player that is looked ahead of.

    Attributes:
        parameters: its weights by name after the steps taken so far, in their own shapes.
    """

    def __init__(self, forward: Forward, player: str) -> None:
        engine, self._player = forward.engines[player], forward.recipe.players[player]
        self._forward, self._name = forward, player
        self._optimizer = cast(LookAheadOptimizer, self._player.optimizer)
        # Copies, so that neither the live weights nor their gradients take part.
        state = whole_tensors(engine, ("weight", *self._optimizer.moments))
        self.parameters: dict[str, Tensor] = {n: t.requires_grad_() for n, t in state.pop("weight").items()}
        self._state: Mapping[str, Mapping[str, Tensor]] = state
        self._steps_taken = engine.steps_taken()
        # A network of the same class without memory: engines that shard hang hooks on the live one.
        if player not in forward.twins:
            with torch.device("meta"):
                forward.twins[player] = forward.recipe.build_network(player).train()
        self._twin: nn.Module = forward.twins[player]
        self._buffers = {name: b.detach().clone() for name, b in engine.network.named_buffers()}

    def run(self, *inputs: Tensor | None, draws: str) -> Any:
        """Return what the network returns after the steps so far, in its precision; running statistics stay.

        Args:
            inputs: what its forward takes, such as samples (n, ...) and labels (n,).
            draws: the name of the random numbers that it may ask for.
        """
        given = stochastic_inputs(self._twin, self._forward.draw.under(f"network/{draws}"))
        tensors = {**self.parameters, **{name: buffer.clone() for name, buffer in self._buffers.items()}}
        with self._forward.autocast(self._name):
            return self._forward.widened(functional_call(self._twin, tensors, inputs, given))

    def step(self, loss: Tensor) -> None:
        """Take a step down a loss, a scalar, the mean over this process's samples (a collective)."""
        gradients = dict(zip(self.parameters, self._averaged(loss), strict=True))
        self._steps_taken += 1
        images_seen = self._forward.images_seen
        factor = self._player.schedule.at(images_seen) * self._forward.segment.lr_factor
        self.parameters, self._state = self._optimizer.update(
            self.parameters,
            gradients,
            self._state,
            step=self._steps_taken,
            lr=self._optimizer.lr * factor,
            hyperparameters=self._optimizer.hyperparameters_at(images_seen),
        )

    def _averaged(self, loss: Tensor) -> list[Tensor]:
        """Return the gradients of the global batch's mean loss in all parameters, in their shapes."""
        parameters = list(self.parameters.values())
        found = torch.autograd.grad(
            loss * self._forward.micro_batch.weight, parameters, create_graph=True, allow_unused=True
        )
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        if num_processes() == 1:
            return gradients
        flat = sum_over_processes(torch.cat([gradient.flatten() for gradient in gradients])) / num_processes()
        parts = flat.split([parameter.numel() for parameter in parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]
