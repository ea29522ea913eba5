"""PyTorch's fully sharded data parallel, second form (FSDP2: `fully_shard`), for one player.

Every parameter is cut along its first axis, so a process's shard is one flat interval. Units of sharding are gathered
just before they compute and released afterwards; `resident` keeps all of them gathered, which second derivatives need
(their backward reads parameters after the first-order backward would have released them).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from framework.engines.base import Fragment, Precision, StepReport
from framework.engines.precision import LossScale, autocast
from framework.optimizers import Optimizer


class Sharded:
    """A network whose parameters, gradients and optimiser state are spread over all processes.

    Args:
        network: on its device, fp32 (or fp64 in tests).
        optimizer: the recipe's optimiser.
        clip_norm: largest global gradient norm, or None.
        precision: of forward passes; parameters stay fp32.
    """

    collective_forward = True

    def __init__(
        self, network: nn.Module, *, name: str, optimizer: Optimizer, clip_norm: float | None, precision: Precision
    ) -> None:
        self.name, self._spec, self._clip_norm, self._precision = name, optimizer, clip_norm, precision
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = next(network.parameters()).device
        for tensor in [*network.parameters(), *network.buffers()]:
            dist.broadcast(tensor.detach(), 0)
        mesh = init_device_mesh(self.device.type, (self.world,))
        for unit in units(network):
            fully_shard(unit, mesh=mesh)
        fully_shard(network, mesh=mesh)
        self.network = network
        self._units = [m for m in network.modules() if isinstance(m, FSDPModule)]
        self._parameters: dict[str, Any] = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self._optimizer = optimizer.build(iter(self._parameters.values()))
        self._scale = LossScale(precision)
        self._loss = torch.zeros((), device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of forward passes."""
        return autocast(self.device, self._precision)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The network with gradients flowing through it but not into its parameters."""
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
        """All parameters stay gathered until the block ends."""
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
        """Accumulate gradients of the (unscaled) loss; they are reduced in the last backward of a turn."""
        self._loss = self._loss + loss.detach()
        for unit in self._units:
            unit.set_requires_gradient_sync(last, recurse=False)
        (loss * self._scale.scale if self._scale.enabled else loss).backward()

    def step(self, *, lr_factor: float, betas: tuple[float, float] | None = None) -> StepReport:
        """Vote, clip, update. A loss or norm that is not finite on any process skips the update on all."""
        self._reshard()  # otherwise the optimiser would see the gathered copies
        for parameter in self._parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad.to_local() for p in self._parameters.values()]
        if self._scale.enabled:
            torch._foreach_mul_(gradients, 1.0 / self._scale.scale)
        squares = torch.stack(torch._foreach_norm(gradients)).double().square().sum()
        vote = torch.stack([squares, self._loss.double()])
        dist.all_reduce(vote)
        total, loss = vote.tolist()
        norm = math.sqrt(total) if total >= 0 else math.nan
        finite = math.isfinite(norm) and math.isfinite(loss)
        if finite:
            if self._clip_norm is not None and norm > self._clip_norm:
                torch._foreach_mul_(gradients, self._clip_norm / (norm + 1e-6))
            for group in self._optimizer.param_groups:
                group["lr"] = self._spec.lr * lr_factor
                if betas is not None:
                    group["betas"] = betas
            self._optimizer.step()
        self._scale.update(finite=finite)
        self._loss = torch.zeros((), device=self.device)
        self._optimizer.zero_grad(set_to_none=True)
        return StepReport(grad_norm=norm, finite=finite)

    def fragments(self, *, own: bool, kinds: tuple[str, ...] | None = None) -> Iterator[Fragment]:
        """This process's rows of every tensor; each interval lies on exactly one process."""
        kinds = ("weight", *self._spec.moments) if kinds is None else kinds
        self._reshard()
        for name, parameter in self._parameters.items():
            rows = -(-parameter.shape[0] // self.world)  # torch.chunk: all but the last ones are equal
            first = min(rows * self.rank, parameter.shape[0])
            row_elements = parameter.numel() // parameter.shape[0]
            if parameter.to_local().numel() == 0:
                continue
            for kind in kinds:
                tensor = parameter if kind == "weight" else self._moments(parameter)[kind]
                values = tensor.to_local().detach().view(-1)
                yield Fragment(
                    kind=kind, name=name, start=first * row_elements, values=values, shape=tuple(parameter.shape)
                )

    def _moments(self, parameter: Any) -> dict[str, Any]:
        state = self._optimizer.state[parameter]
        if "step" not in state:  # torch creates it in the first step; checkpoints may be read or written before
            state["step"] = torch.tensor(0.0)
            for moment in self._spec.moments:
                state[moment] = torch.zeros_like(parameter)
        return state

    def steps_taken(self) -> int:
        """Optimiser steps so far; one number, because a missing gradient counts as zero."""
        return max((int(s["step"]) for s in self._optimizer.state.values() if "step" in s), default=0)

    def commit(self, *, steps_taken: int | None = None) -> None:
        """Set the optimiser's step count; the shards were written in place."""
        if steps_taken is not None:
            for parameter in self._parameters.values():
                self._moments(parameter)["step"] = torch.tensor(float(steps_taken))

    def state(self) -> dict[str, float]:
        """The fp16 loss scale."""
        return self._scale.state()

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        self._scale.load_state(state)

    def close(self) -> None:
        """Nothing is held beyond Python's own references."""


def units(network: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at a time: the network's children, and the members of its lists and dictionaries.

    Those have no forward of their own, so they would never be gathered; nor has a child without parameters anything.
    """
    for child in network.children():
        members = list(child.children()) if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child]
        yield from (member for member in members if any(True for _ in member.parameters()))
