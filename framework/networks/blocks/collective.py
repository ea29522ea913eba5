"""A sum over processes that autograd differentiates any number of times."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_processes() -> int:
    """Processes in the default group; 1 when there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _SumOverProcesses(torch.autograd.Function):
    """`y = sum_r x_r` on every process. Its transpose is the same sum, hence the same function is its backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.apply(gradient)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The elementwise sum of every process's `tensor`; the tensor itself when there is one process.

    Collective in forward and in every order of backward: all processes must build and differentiate the same graph.
    The gradient is that of the *sum over processes* of their losses.
    """
    return tensor if num_processes() == 1 else _SumOverProcesses.apply(tensor)


@torch.no_grad()
def max_over_processes(tensor: Tensor) -> Tensor:
    """The elementwise maximum of every process's `tensor`, without a gradient. Collective."""
    largest = tensor.detach().clone()
    if num_processes() > 1:
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest
