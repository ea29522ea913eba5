"""Where samples are and how far they move, in units of the data's own spread: cheap, and blind to quality.

Everything is measured on coarse samples: pictures of at most 4 x 4 pixels, or points as they are. A distance of 1 is
the root mean square distance of two real samples, so a generator whose samples for fixed latents move by 1 between two
looks has been shuffled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

COARSE_SIDE = 4
"""Largest side in pixels of coarse pictures."""
MOST_NUMBERS = 256
"""The most numbers of a vector that count."""
_DIGITS = 5
"""Significant digits that are kept from look to look, in a checkpoint as in memory."""

Rows = list[list[float]]
"""Samples as numbers, (N, K)."""


def coarse(samples: Tensor) -> Tensor:
    """Return samples, pictures (N, C, H, W) or vectors (N, D), as few numbers each, float64 (N, K)."""
    if samples.dim() == 4:
        height, width = (min(COARSE_SIDE, size) for size in samples.shape[-2:])
        samples = functional.adaptive_avg_pool2d(samples.float(), (height, width))
    return samples.double().flatten(1)[:, :MOST_NUMBERS].cpu()


def kept(rows: Tensor) -> Rows:
    """Return coarse samples (N, K) as plain numbers of few digits, for a checkpoint."""
    return [[float(f"{number:.{_DIGITS}g}") for number in row] for row in rows.tolist()]


def spread_of(rows: Tensor) -> float:
    """Return the root mean square distance of two of the samples (N, K)."""
    return math.sqrt(2.0 * float(rows.var(0, correction=1).sum()))


def moved(now: Rows, before: Rows, *, spread: float) -> float | None:
    """Return how far samples of the same latents have moved, as a share of the data's spread; None if unknown."""
    if not before or len(before) != len(now) or len(before[0]) != len(now[0]) or spread <= 0:
        return None
    differences = torch.tensor(now, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
    return float(differences.square().sum(1).mean().sqrt()) / spread


def shifted(mean: Sequence[float], real_mean: Sequence[float], *, spread: float) -> float | None:
    """Return the distance of the samples' mean from the real one, as a share of the data's spread; None if unknown."""
    if len(mean) != len(real_mean) or spread <= 0:
        return None
    return math.dist(mean, real_mean) / spread
