"""Measures how diverse samples are from their numbers alone: cheap enough for every tick, and blind to quality.

The mean squared distance between two images of a class is twice the sum of the pixels' variances, so no pairs are
formed. Images are averaged down to a few pixels first: noise averages out, and what remains is shape and colour.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 16
"""Largest side in pixels at which images are compared; larger ones are averaged down."""
FEWEST = 4
"""Smallest number of images of a class that is measured."""


def shrunk(images: Tensor, side: int) -> Tensor:
    """Average images (N, C, H, W) down to float32 (N, C, h, w) with h and w at most `side` and at most `SIDE` pixels.

    Their range stays; sides that are small enough already stay, too. Vectors (N, D) are returned as they are.
    """
    if images.dim() != 4:
        return images.float()
    height, width = (min(side, SIDE, size) for size in images.shape[-2:])
    return functional.adaptive_avg_pool2d(images.float(), (height, width))


def spread(images: Tensor, labels: Tensor | None = None) -> dict[int, float]:
    """Return the root of the mean squared distance between two images of a class, per class.

    Args:
        images: (N, C, H, W), uint8 or float, compared at `SIDE` pixels; or vectors (N, D).
        labels: (N,) int64; None: one class, 0.

    Returns:
        The distance in the images' own units per pixel, for every class with at least `FEWEST` images.
    """
    small = shrunk(images, SIDE).double().flatten(1)
    if labels is None:
        labels = torch.zeros(len(images), dtype=torch.int64)
    found = {}
    for label in labels.unique().tolist():
        rows = small[labels.to(small.device) == label]
        if len(rows) >= FEWEST:
            found[int(label)] = float((2.0 * rows.var(0, correction=1).mean()).sqrt())
    return found


def diversity(fake: dict[int, float], real: dict[int, float]) -> dict[str, float]:
    """Return signals from the spreads of generated and real images: mean and smallest ratio over common classes."""
    ratios = [fake[label] / real[label] for label in fake.keys() & real.keys() if real[label] > 0]
    if not ratios:
        return {}
    signals = {"diversity": sum(ratios) / len(ratios)}
    return signals | ({"diversity_of_worst_class": min(ratios)} if len(ratios) > 1 else {})
