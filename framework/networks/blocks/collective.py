"""A sum over processes that autograd differentiates any number of times."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_processes() -> int:
    """Return the number of processes in the default group; 1 when there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _SumOverProcesses(torch.autograd.Function):
    """The sum `y = sum_r x_r` on every process. Its transpose is the same sum, so it is its own backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.apply(gradient)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the elementwise sum of every process's `tensor`; the tensor itself when there is one process.

    This is a collective in forward and in every order of backward: all processes must build and differentiate the same
    graph. The gradient is that of the *sum over processes* of their losses.

    Args:
        tensor: any shape and dtype, the same ones on every process.
    """
    return tensor if num_processes() == 1 else _SumOverProcesses.apply(tensor)


@torch.no_grad()
def max_over_processes(tensor: Tensor) -> Tensor:
    """Return the elementwise maximum of every process's `tensor`, without a gradient; a collective.

    Args:
        tensor: any shape and dtype, the same ones on every process.
    """
    largest = tensor.detach().clone()
    if num_processes() > 1:
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest
