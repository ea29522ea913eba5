"""Collectives over the processes of a launch: sums that autograd differentiates, and what rank 0 sends to all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from framework.runtime.session import Session
from framework.utils.errors import FrameworkError


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


def gathered_over_processes(tensor: Tensor) -> tuple[Tensor, slice]:
    """Return the rows of all processes in the order of ranks, (M, ...), and the place of this process's among them.

    Processes may hold different numbers of rows. Within a micro-batch, the order is that of the global batch. It is
    differentiable any number of times: the call, and each of its backwards, is a collective. Without other processes
    the tensor itself is returned.

    Args:
        tensor: (N, ...), with the same shape but for N on every process.
    """
    if num_processes() == 1:
        return tensor, slice(0, len(tensor))
    counts = torch.zeros(num_processes(), dtype=torch.int64, device=tensor.device)
    counts[dist.get_rank()] = len(tensor)
    dist.all_reduce(counts)
    sizes = counts.tolist()
    before = sum(sizes[: dist.get_rank()])
    after = sum(sizes) - before - len(tensor)
    # A sum of zero-padded parts gathers them, and autograd differentiates it.
    padded = torch.cat(
        [tensor.new_zeros(before, *tensor.shape[1:]), tensor, tensor.new_zeros(after, *tensor.shape[1:])]
    )
    return sum_over_processes(padded), slice(before, before + len(tensor))


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


_BLOCK_BYTES = 64 << 20


def summed(session: Session, tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, in its own shape, type and device. A collective.

    It is sent in blocks, so that the session's device needs little memory; the tensor itself may be overwritten.
    """
    if session.world == 1:
        return tensor
    flat = tensor.reshape(-1)
    step = max(1, _BLOCK_BYTES // tensor.element_size())
    for start in range(0, flat.numel(), step):
        block = flat[start : start + step].to(session.device)
        dist.all_reduce(block)
        flat[start : start + step] = block.to(flat.device)
    return flat.view(tensor.shape)


def from_main(session: Session, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return rank 0's tensors on every rank, on the host; the others pass None. A collective.

    Tensors may have any shape; shapes and types are rank 0's. No file needs to be visible to all ranks.
    """
    if session.world == 1:
        return dict(tensors or {})
    listed = None
    if session.is_main:
        listed = json.dumps([[name, str(t.dtype)[6:], list(t.shape)] for name, t in (tensors or {}).items()])
    received = {}
    for name, kind, shape in json.loads(session.broadcast_text(listed)):
        mine = (tensors or {})[name] if session.is_main else torch.zeros(shape, dtype=getattr(torch, kind))
        # A broadcast is a sum in which the others are zero: it is sent in the same bounded blocks.
        received[name] = summed(session, mine.clone() if session.is_main else mine)
    return received


@contextlib.contextmanager
def together(session: Session, *, doing: str) -> Iterator[None]:
    """Fail on every rank when the block fails on one: the others would wait for it in a collective for ever.

    Raises:
        FrameworkError, OSError: this rank's own error.
        EvaluationError: another rank failed.
    """
    error: FrameworkError | OSError | None = None
    try:
        yield
    except (FrameworkError, OSError) as problem:
        error = problem
    failed = session.sum_over_ranks(float(error is not None))
    if error is not None:
        raise error
    if failed:
        raise FrameworkError(f"rank {session.rank}: {int(failed)} other rank(s) failed {doing}; their message says why")
