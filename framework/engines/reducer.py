"""Average gradients over processes while the backward pass still runs.

Gradients live as views in a few flat buckets, in the order the backward pass fills them. When the last backward of a
turn completes a bucket, its all-reduce starts at once. Unlike `DistributedDataParallel` nothing hooks the forward pass:
losses may call the raw network any number of times, differentiate it twice, or leave parameters without gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass
class _Bucket:
    flat: Tensor
    num_parameters: int
    pending: int = 0
    work: dist.Work | None = None


class GradientReducer:
    """Flat gradient buckets over `parameters` and their overlapped all-reduce.

    Args:
        parameters: the trained parameters in the order of the forward pass, of any shapes.
        bucket_bytes: the size at which a bucket is closed.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, bucket_bytes: int = 25 * 2**20) -> None:
        self._buckets: list[_Bucket] = []
        self._next = 0
        self._armed = False
        for group in _grouped(reversed(list(parameters)), bucket_bytes):
            # One spare element at the end: in the last bucket it carries the loss to the vote.
            flat = torch.zeros(sum(p.numel() for p in group) + 1, dtype=group[0].dtype, device=group[0].device)
            bucket = _Bucket(flat=flat, num_parameters=len(group))
            offset = 0
            for parameter in group:
                parameter.grad = flat[offset : offset + parameter.numel()].view_as(parameter)
                parameter.register_post_accumulate_grad_hook(lambda _, b=bucket: self._ready(b))
                offset += parameter.numel()
            self._buckets.append(bucket)

    def arm(self, loss: Tensor) -> None:
        """Declare the next backward the turn's last, so that each bucket is reduced as soon as it is complete.

        Args:
            loss: its loss, a scalar ().
        """
        self.note(loss)
        self._armed, self._next = True, 0
        for bucket in self._buckets:
            bucket.pending = bucket.num_parameters

    def note(self, loss: Tensor) -> None:
        """Add a loss, a scalar (), to the vote, so that all processes see a non-finite one."""
        self._buckets[-1].flat[-1] += loss.detach()

    def finish(self) -> Tensor:
        """Wait until gradients hold the average over processes.

        Returns:
            The mean over processes of the summed losses, a scalar (); not finite if any loss was not.
        """
        # Parameters without a gradient keep their bucket from completing: reduce what is left.
        self._launch_ready(everything=True)
        self._armed = False
        world = dist.get_world_size()
        for bucket in self._buckets:
            assert bucket.work is not None
            bucket.work.wait()
            bucket.work = None
            bucket.flat.div_(world)
        return self._buckets[-1].flat[-1]

    def zero(self) -> None:
        """Clear gradients in place; they stay views of the buckets."""
        for bucket in self._buckets:
            bucket.flat.zero_()

    def _ready(self, bucket: _Bucket) -> None:
        if self._armed:
            bucket.pending -= 1
            self._launch_ready(everything=False)

    def _launch_ready(self, *, everything: bool) -> None:
        # Strictly in order, so that every process issues the same sequence of collectives.
        while self._next < len(self._buckets):
            bucket = self._buckets[self._next]
            if bucket.pending > 0 and not everything:
                return
            bucket.work = dist.all_reduce(bucket.flat, async_op=True)
            self._next += 1


def _grouped(parameters: Iterable[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    groups: list[list[nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        same_kind = groups and groups[-1][0].dtype == parameter.dtype and groups[-1][0].device == parameter.device
        if not same_kind or size >= bucket_bytes:
            groups.append([])
            size = 0
        groups[-1].append(parameter)
        size += parameter.numel() * parameter.element_size()
    return groups
