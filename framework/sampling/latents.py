"""Latents and labels of sample grids. They are functions of a seed, with one class per column."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from framework.runtime.seeding import Draws
from framework.utils.errors import FrameworkError

SMALLEST_TRUNCATION = 0.05
"""Smallest truncation that is taken: below it, drawing entries again would take for ever."""


def grid_labels(*, rows: int, columns: int, classes: int, chosen: Sequence[int] | None = None) -> Tensor | None:
    """Return labels (rows * columns,) int64, one class per column; None without classes.

    With fewer columns than classes they are spread evenly over the classes; with more, classes repeat.

    Args:
        classes: number of classes of the generator.
        chosen: classes of the columns, from the left.

    Raises:
        FrameworkError: a chosen class does not exist, or the generator has no classes.
    """
    if classes == 0:
        if chosen:
            raise FrameworkError("--classes: this generator was trained without classes")
        return None
    for label in chosen or ():
        if not 0 <= label < classes:
            raise FrameworkError(f"--classes {label}: this generator has the classes 0 ... {classes - 1}")
    if not chosen:
        chosen = [c * classes // columns for c in range(columns)] if columns < classes else list(range(classes))
    row = torch.tensor([chosen[c % len(chosen)] for c in range(columns)])
    return row.repeat(rows)


def latents(*, seed: int, count: int, z_dim: int, truncation: float | None = None, purpose: str = "samples") -> Tensor:
    """Draw standard normal latents (count, z_dim) float32 on the CPU; the first ones do not depend on the count.

    Args:
        truncation: entries outside [-truncation, truncation] are drawn again (Brock et al. 2019, arXiv:1809.11096,
            section 3.1).
        purpose: another purpose gives other latents for the same seed.

    Raises:
        FrameworkError: truncation is below `SMALLEST_TRUNCATION`, or NaN.
    """
    if truncation is not None and not truncation >= SMALLEST_TRUNCATION:
        raise FrameworkError(
            f"--truncation {truncation}: must be at least {SMALLEST_TRUNCATION}; 1.0 trims little, 0.5 a lot"
        )
    rows = [_latent(seed, index, z_dim, truncation, purpose) for index in range(count)]
    return torch.stack(rows) if rows else torch.empty(0, z_dim)


def _latent(seed: int, index: int, z_dim: int, truncation: float | None, purpose: str) -> Tensor:
    draws = Draws(seed=seed, images_seen=index)
    z = draws.normal(purpose, z_dim)
    attempt = 0
    while truncation is not None and bool((outside := z.abs() > truncation).any()):
        attempt += 1
        z = torch.where(outside, draws.normal(f"{purpose}/{attempt}", z_dim), z)
    return z


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Interpolate spherically from `a` to `b`, both (z_dim,); return a latent (z_dim,).

    Unlike linear interpolation it keeps the length that Gaussian latents have (arXiv:1609.04468).

    Args:
        share: share of the way, from 0 (`a`) to 1 (`b`).
    """
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1.0, 1.0)
    angle = torch.acos(cosine)
    if float(angle) < 1e-4:
        return torch.lerp(a, b, share)
    return (torch.sin((1.0 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
