"""PyTorch's fully sharded data parallel, second form (FSDP2: `fully_shard`), for one player.

Every parameter is cut along its first axis, so a process's shard is one flat interval. Units of sharding are gathered
just before they compute and released afterwards; `resident` keeps all of them gathered, which second derivatives need
(their backward reads parameters after the first-order backward would have released them).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from framework.engines.base import ParameterSlice, Precision, StepReport
from framework.engines.optimizer_state import OptimizerState
from framework.engines.precision import LossScale, autocast
from framework.engines.structured import outputs_taken_apart
from framework.engines.weight_clipping import WeightClipping
from framework.recipe.optimizers import Optimizer


class FSDP2Engine:
    """A network whose parameters, gradients and optimiser state are spread over all processes.

    Args:
        network: the player's network on its device, in fp32 (in tests also fp64).
        optimizer: the recipe's optimiser.
        clip_norm: largest L2 norm of the whole gradient, or None for no clipping.
        weight_clipping: the box that weights are kept in; None for none.
        precision: precision of forward passes; parameters stay fp32.
    """

    collective_forward = True

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
        self.name, self._spec, self._clip_norm, self._precision = name, optimizer, clip_norm, precision
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = next(network.parameters()).device
        # All processes begin with rank 0's tensors.
        for tensor in [*network.parameters(), *network.buffers()]:
            dist.broadcast(tensor.detach(), 0)
        # Shard unit by unit, then what is left over.
        mesh = init_device_mesh(self.device.type, (self.world,))
        with outputs_taken_apart(network):
            for unit in units(network):
                fully_shard(unit, mesh=mesh)
            fully_shard(network, mesh=mesh)
        self.network = network
        self._units = [m for m in network.modules() if isinstance(m, FSDPModule)]
        self._parameters: dict[str, Any] = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self._optimizer = optimizer.build(iter(self._parameters.values()))
        self._state = OptimizerState(optimizer, self._optimizer, self._parameters.values())
        self._weight_clipping = weight_clipping or WeightClipping()
        self._scale = LossScale(precision)
        self._loss = torch.zeros((), device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the autocast context of forward passes."""
        return autocast(self.device, self._precision)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """Yield the network with gradients flowing through it but not into its parameters."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield self.network
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    @contextlib.contextmanager
    def resident(self) -> Iterator[None]:
        """Keep all parameters gathered until the block ends."""
        for unit in self._units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.set_reshard_after_backward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            for unit in self._units:
                unit.set_reshard_after_forward(True, recurse=False)
                unit.set_reshard_after_backward(True, recurse=False)
            self._reshard()

    def _reshard(self) -> None:
        for unit in self._units:
            unit.reshard()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate gradients of the unscaled loss (); they are reduced in the last backward of a turn."""
        self._loss = self._loss + loss.detach()
        for unit in self._units:
            unit.set_requires_gradient_sync(last, recurse=False)
        (loss * self._scale.scale if self._scale.enabled else loss).backward()

    def begin_turn(self) -> None:
        """Clip weights before the first forward pass for a step of this player, if it clips them there."""
        self._weight_clipping.begin_turn(self)

    def step(self, *, lr_factor: float, hyperparameters: Mapping[str, Any] | None = None) -> StepReport:
        """Vote, clip and update; a non-finite loss or norm on any process skips the update on all."""
        self._reshard()  # otherwise the optimiser would see the gathered copies
        # A missing gradient counts as zero; undo the loss scale.
        for parameter in self._parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad.to_local() for p in self._parameters.values()]
        if self._scale.enabled:
            torch._foreach_mul_(gradients, 1.0 / self._scale.scale)
        # The norm of the whole gradient, and the vote, in one all-reduce.
        squares = torch.stack(torch._foreach_norm(gradients)).double().square().sum()
        vote = torch.stack([squares, self._loss.double()])
        dist.all_reduce(vote)
        total, loss = vote.tolist()
        norm = math.sqrt(total) if total >= 0 else math.nan
        finite = math.isfinite(norm) and math.isfinite(loss)
        # Clip and update this process's shards.
        if finite:
            if self._clip_norm is not None and norm > self._clip_norm:
                torch._foreach_mul_(gradients, self._clip_norm / (norm + 1e-6))
            self._state.set_schedule(lr_factor=lr_factor, hyperparameters=hyperparameters)
            self._optimizer.step()
            self._state.steps_taken += 1
        self._weight_clipping.end_turn(self, taken=finite)
        self._scale.update(finite=finite)
        self._loss = torch.zeros((), device=self.device)
        self._optimizer.zero_grad(set_to_none=True)
        return StepReport(grad_norm=norm, finite=finite)

    def slices(self, *, own: bool, kinds: tuple[str, ...] | None = None) -> Iterator[ParameterSlice]:
        """Yield this process's rows of every tensor; each interval lies on exactly one process."""
        kinds = ("weight", *self._spec.moments) if kinds is None else kinds
        self._reshard()
        for name, parameter in self._parameters.items():
            rows = -(-parameter.shape[0] // self.world)  # torch.chunk: all but the last ones are equal
            first = min(rows * self.rank, parameter.shape[0])
            row_elements = parameter.numel() // parameter.shape[0]
            if parameter.to_local().numel() == 0:
                continue
            for kind in kinds:
                tensor = parameter if kind == "weight" else self._state.of(parameter)[kind]
                values = tensor.to_local().detach().view(-1)
                yield ParameterSlice(
                    kind=kind, name=name, start=first * row_elements, values=values, shape=tuple(parameter.shape)
                )

    def steps_taken(self) -> int:
        """Return the number of optimiser steps so far, skipped ones not counted."""
        return self._state.steps_taken

    def commit(self, *, steps_taken: int | None = None) -> None:
        """Set the optimiser's step count; the shards were written in place."""
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


def units(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that are gathered one at a time: the network's children that have parameters.

    A list or dictionary of modules has no forward before which it could be gathered, so its members are taken.
    """
    for child in network.children():
        members = list(child.children()) if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child]
        yield from (member for member in members if any(True for _ in member.parameters()))
