"""The engine whose every process holds the whole network: one process, or data-parallel over many (`ddp`)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.engines.base import ParameterSlice, Precision, StepReport
from framework.engines.optimizer_state import OptimizerState
from framework.engines.precision import LossScale, autocast
from framework.engines.reducer import GradientReducer
from framework.engines.weight_clipping import WeightClipping
from framework.recipe.optimizers import Optimizer


class DDPEngine:
    """A network and its optimiser, whole on every process; gradients are averaged in buckets during the backward.

    Args:
        network: the player's network on its device, in fp32 (in tests also fp64).
        optimizer: the recipe's optimiser.
        clip_norm: largest L2 norm of the whole gradient, or None for no clipping.
        weight_clipping: the box that weights are kept in; None for none.
        precision: precision of forward passes.
    """

    collective_forward = False

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        optimizer: Optimizer,
        clip_norm: float | None,
        weight_clipping: WeightClipping | None = None,
        precision: Precision,
    ) -> None:
        self.name, self.network = name, network
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.device = next(network.parameters()).device
        self._parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
        if self.world > 1:
            for tensor in [*network.parameters(), *network.buffers()]:
                dist.broadcast(tensor.detach(), 0)
        self._spec, self._clip_norm, self._precision = optimizer, clip_norm, precision
        self._optimizer = optimizer.build(iter(self._parameters.values()))
        self._state = OptimizerState(optimizer, self._optimizer, self._parameters.values())
        self._weight_clipping = weight_clipping or WeightClipping()
        self._scale = LossScale(precision)
        self._reducer = GradientReducer(self._parameters.values()) if self.world > 1 else None
        self._loss = torch.zeros((), device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the autocast context of forward passes."""
        return autocast(self.device, self._precision)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """Yield the network with gradients flowing through it but not into its parameters."""
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)
        try:
            yield self.network
        finally:
            for parameter in self._parameters.values():
                parameter.requires_grad_(True)

    @contextlib.contextmanager
    def resident(self) -> Iterator[None]:
        """Do nothing: parameters are never released."""
        yield

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate gradients of the unscaled loss (); with `last`, the reduction overlaps this backward."""
        # Tell the vote of the step about the loss.
        if self._reducer is None:
            self._loss = self._loss + loss.detach()
        elif last:
            self._reducer.arm(loss)
        else:
            self._reducer.note(loss)
        # Gradients accumulate; in fp16 they are scaled.
        (loss * self._scale.scale if self._scale.enabled else loss).backward()

    def begin_turn(self) -> None:
        """Clip weights before the first forward pass for a step of this player, if it clips them there."""
        self._weight_clipping.begin_turn(self)

    def step(self, *, lr_factor: float, hyperparameters: Mapping[str, Any] | None = None) -> StepReport:
        """Average, vote, clip and update; a non-finite loss or norm on any process skips the update on all."""
        # A missing gradient counts as zero, so that every parameter takes the same number of steps.
        for parameter in self._parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        # Average over processes, and undo the loss scale.
        loss = self._reducer.finish() if self._reducer else self._loss
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        if self._scale.enabled:
            torch._foreach_mul_(gradients, 1.0 / self._scale.scale)
        # Vote: the averages, and with them the verdict, are the same on every process.
        norm_tensor = torch.nn.utils.get_total_norm(gradients)
        norm, loss_value = torch.stack([norm_tensor.double(), loss.double()]).tolist()
        finite = math.isfinite(norm) and math.isfinite(loss_value)
        # Clip and update.
        if finite:
            if self._clip_norm is not None and norm > self._clip_norm:
                torch.nn.utils.clip_grads_with_norm_(list(self._parameters.values()), self._clip_norm, norm_tensor)
            self._state.set_schedule(lr_factor=lr_factor, hyperparameters=hyperparameters)
            self._optimizer.step()
            self._state.steps_taken += 1
        self._weight_clipping.end_turn(self, taken=finite)
        self._scale.update(finite=finite)
        self._clear()
        return StepReport(grad_norm=norm, finite=finite)

    def _clear(self) -> None:
        self._loss = torch.zeros((), device=self.device)
        if self._reducer:
            self._reducer.zero()
        else:
            self._optimizer.zero_grad(set_to_none=True)

    def slices(self, *, own: bool, kinds: tuple[str, ...] | None = None) -> Iterator[ParameterSlice]:
        """Yield whole tensors; with `own`, each goes to the process with the fewest elements so far."""
        kinds = ("weight", *self._spec.moments) if kinds is None else kinds
        # Every process computes the same owners.
        load = [0] * self.world
        for name, parameter in self._parameters.items():
            owner = load.index(min(load))
            load[owner] += parameter.numel()
            if own and owner != self.rank:
                continue
            for kind in kinds:
                values = parameter.detach() if kind == "weight" else self._state.of(parameter)[kind]
                yield ParameterSlice(
                    kind=kind, name=name, start=0, values=values.view(-1), shape=tuple(parameter.shape)
                )

    def steps_taken(self) -> int:
        """Return the number of optimiser steps so far, skipped ones not counted."""
        return self._state.steps_taken

    def commit(self, *, steps_taken: int | None = None) -> None:
        """Set the optimiser's step count; the tensors were written in place."""
        if steps_taken is not None:
            self._state.set_steps_taken(steps_taken)

    def state(self) -> dict[str, float]:
        """Return the fp16 loss scale as a checkpoint keeps it; empty in other precisions."""
        return self._scale.state()

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        self._scale.load_state(state)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
