"""Running means of what a game reports, kept on the device until a tick reads them.

Reading a value stops a GPU's queue, so games only add tensors here; `means` reads and averages over processes once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


class Metrics:
    """Weighted means by name; every process must add the same names in the same steps."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def add(self, name: str, value: Tensor | float, *, weight: float = 1.0) -> None:
        """Add this process's mean, a scalar (), with its weight as `BatchSlice` has it."""
        value = value.detach().double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        self._sums[name] = self._sums[name] + value * weight if name in self._sums else value * weight
        self._weights[name] = self._weights.get(name, 0.0) + weight

    def merge(self, other: Metrics) -> None:
        """Add everything that other scores hold."""
        for name, total in other._sums.items():
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            self._weights[name] = self._weights.get(name, 0.0) + other._weights[name]

    def sums(self) -> dict[str, tuple[float, float]]:
        """Return this process's weighted sum and the sum of the weights by name, sorted."""
        return {name: (float(self._sums[name]), self._weights[name]) for name in sorted(self._sums)}

    @classmethod
    def restored(cls, sums: Mapping[str, tuple[float, float]]) -> Metrics:
        """Return the scores whose `sums` these are."""
        metrics = cls()
        for name, (total, weight) in sums.items():
            metrics._sums[name], metrics._weights[name] = torch.tensor(total, dtype=torch.float64), weight
        return metrics

    def means(self, *, device: torch.device) -> dict[str, float]:
        """Return the means over all processes, by name (a collective)."""
        if not self._sums:
            return {}
        names = sorted(self._sums)
        table = torch.stack([self._sums[n].to(device) for n in names])
        weights = torch.tensor([self._weights[n] for n in names], dtype=torch.float64, device=device)
        both = torch.stack([table, weights])
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(both)
        sums, totals = both.cpu().unbind()
        return dict(zip(names, (sums / totals).tolist(), strict=True))
