"""Decides which image gets which transform, by draws that are zero where a transform leaves an image alone.

Every transform of arXiv:2006.06676 leaves an image alone when its number is zero (angle 0, scale 2^0, ...), so
"apply it with probability p" is a draw that is zero with probability 1 - p.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.networks.draw import Draw


@dataclass(frozen=True, kw_only=True)
class Chance:
    """The draws of one call, one row per image, in float64, so that matrices made of them are not rounded to TF32."""

    num_images: int
    device: torch.device
    strength: float
    """p of the paper."""
    multipliers: Mapping[str, float]
    """Factors on p, by transform; 0 switches a transform off and draws nothing."""
    draw: Draw

    def uses_any(self, transforms: Iterable[str]) -> bool:
        """Return whether one of the transforms is on."""
        return any(self.multipliers[transform] > 0 for transform in transforms)

    def probability(self, transform: str) -> float:
        """Return the chance that an image gets the transform."""
        return min(self.strength * self.multipliers[transform], 1.0)

    def picked(self, transform: str, *, what: str | None = None, probability: float | None = None) -> Tensor:
        """Draw which images get a transform, bool (n,).

        Args:
            transform: name of the transform in `multipliers`.
            what: name of this use of the transform, if it has several.
            probability: chance of an image, instead of `probability(transform)`.
        """
        gate = self.draw.uniform(f"{what or transform}/picked")
        assert gate.shape == (self.num_images,), f"{self.num_images} images, draws of shape {tuple(gate.shape)}"
        return gate < (self.probability(transform) if probability is None else probability)

    def integers(self, transform: str, high: int) -> Tensor:
        """Draw whole numbers from 0 to high - 1, (n,) float64; 0 for images that are left alone."""
        if not self.uses_any([transform]):
            return self._nothing()
        return _where(self.picked(transform), self.draw.integers(transform, high))

    def signed(self, transform: str, *shape: int, what: str | None = None, probability: float | None = None) -> Tensor:
        """Draw uniformly in [-1, 1), (n, *shape) float64; 0 for images that are left alone."""
        if not self.uses_any([transform]):
            return self._nothing(*shape)
        picked = self.picked(transform, what=what, probability=probability)
        return _where(picked, 2 * self.draw.uniform(what or transform, *shape).double() - 1)

    def normal(self, transform: str, *shape: int, what: str | None = None) -> Tensor:
        """Draw standard normal numbers, (n, *shape) float64; 0 for images that are left alone."""
        if not self.uses_any([transform]):
            return self._nothing(*shape)
        return _where(self.picked(transform, what=what), self.draw.normal(what or transform, *shape))

    def _nothing(self, *shape: int) -> Tensor:
        return torch.zeros(self.num_images, *shape, dtype=torch.float64, device=self.device)


def _where(picked: Tensor, values: Tensor) -> Tensor:
    values = values.double()
    return torch.where(picked.view(-1, *[1] * (values.dim() - 1)), values, 0.0)
