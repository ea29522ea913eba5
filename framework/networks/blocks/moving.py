"""Moving means that a network keeps of its own activations: StyleGAN's mean style vector, StyleGAN3's magnitudes.

Forward passes in training only note what they saw; `advance(network)` moves the means once per turn of the game by the
mean over all processes and micro-batches. The means therefore do not depend on the number of either, and lag one turn
behind. (Published programs move them inside forward, per process.)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.runtime.collectives import num_processes


class MovingMean(nn.Module):
    """A moving mean: `value <- keep * value + (1 - keep) * mean of what was noted`.

    Args:
        shape: shape of the value; () for a scalar.
        keep: weight of the old value per turn, in [0, 1].
        init: the first value.
    """

    value: Tensor

    def __init__(self, shape: tuple[int, ...], *, keep: float, init: float = 0.0) -> None:
        super().__init__()
        self.keep = keep
        self.register_buffer("value", torch.full(shape, init))
        self._sum: Tensor | None = None
        self._count = 0

    @torch.no_grad()
    def note(self, x: Tensor) -> None:
        """Remember x (N, *shape), one row per image, in training; do nothing in evaluation."""
        if not self.training:
            return
        total = x.detach().to(torch.promote_types(x.dtype, torch.float32)).sum(0)
        self._sum = total if self._sum is None else self._sum + total
        self._count += len(x)

    def take(self) -> Tensor:
        """Return and forget what was noted: (1 + numel of value,) float64, the number of rows and their sums."""
        taken = torch.zeros(1 + self.value.numel(), dtype=torch.float64, device=self.value.device)
        if self._sum is not None:
            taken[0] = self._count
            taken[1:] = self._sum.flatten()
        self._sum, self._count = None, 0
        return taken

    def move(self, taken: Tensor) -> None:
        """Move towards the mean of the rows in `taken` (1 + numel of value,), which `take` describes."""
        count, sums = taken[0], taken[1:].view_as(self.value)
        moved = torch.lerp(sums / count, self.value.double(), self.keep).to(self.value.dtype)
        self.value.copy_(torch.where(count > 0, moved, self.value))


def moving_means(network: nn.Module) -> Iterator[MovingMean]:
    """Iterate over every moving mean of a network, in the order of its modules."""
    return (module for module in network.modules() if isinstance(module, MovingMean))


@torch.no_grad()
def advance(network: nn.Module) -> None:
    """Move every moving mean by what all processes noted since the last call, with one collective."""
    means = list(moving_means(network))
    if not means:
        return
    taken = [mean.take() for mean in means]
    flat = torch.cat(taken)
    if num_processes() > 1:
        dist.all_reduce(flat)
    for mean, part in zip(means, flat.split([len(t) for t in taken]), strict=True):
        mean.move(part)


def forget(network: nn.Module) -> None:
    """Forget what was noted, for example in a turn that is not counted."""
    for mean in moving_means(network):
        mean.take()
