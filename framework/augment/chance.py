"""Decides which image gets which transform, by draws that are zero where a transform leaves an image alone.

Every transform of arXiv:2006.06676 leaves an image alone when its number is zero (angle 0, scale 2^0, ...), so
"apply it with probability p" is a draw that is zero with probability 1 - p.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from framework.networks.draw import Draw, Request, drawn_together


def when_picked(use: str, request: Request) -> dict[str, Request]:
    """Return the two draws of a use of a transform: which images get it, and its number.

    Args:
        use: name of the transform, followed by `/` and the name of the use where it has several.
        request: the number.
    """
    return {f"{use}/picked": Request(kind="uniform"), use: request}


class Chance:
    """The draws of one call, one row per image, in float64, so that matrices made of them are not rounded to TF32.

    All of them are drawn together when it is made.

    Args:
        num_images: number of rows.
        device: of the images.
        strength: p of the paper.
        multipliers: factors on p, by transform; 0 switches a transform off and draws nothing.
        requests: what transforms draw, by names that begin with theirs; see `when_picked`.
        draw: source of all random numbers.
    """

    def __init__(
        self,
        *,
        num_images: int,
        device: torch.device,
        strength: float,
        multipliers: Mapping[str, float],
        requests: Mapping[str, Request],
        draw: Draw,
    ) -> None:
        self.num_images, self.device, self.strength, self.draw = num_images, device, strength, draw
        self._multipliers, self._requests = multipliers, requests
        on = {name: request for name, request in requests.items() if multipliers[_transform(name)] > 0}
        self._values = drawn_together(draw, "transforms", on)
        for name, value in self._values.items():
            assert len(value) == num_images, f"{name}: {num_images} images, draws of shape {tuple(value.shape)}"

    def uses_any(self, transforms: Iterable[str]) -> bool:
        """Return whether one of the transforms is on."""
        return any(self._multipliers[transform] > 0 for transform in transforms)

    def probability(self, transform: str) -> float:
        """Return the chance that an image gets the transform."""
        return min(self.strength * self._multipliers[transform], 1.0)

    def picked(self, use: str, *, probability: float | None = None) -> Tensor:
        """Return which images get a transform that is on, bool (n,).

        Args:
            use: name of the transform, or of one of its uses.
            probability: chance of an image, instead of `probability` of the transform.
        """
        return self._values[f"{use}/picked"] < (
            self.probability(_transform(use)) if probability is None else probability
        )

    def number(self, use: str, *, probability: float | None = None) -> Tensor:
        """Return the numbers of a use, (n, *shape) float64; 0 for images that are left alone.

        Uniform ones lie in [-1, 1), whole and normal ones are as they were requested. Arguments as for `picked`.
        """
        request = self._requests[use]
        if not self.uses_any([_transform(use)]):
            return torch.zeros(self.num_images, *request.shape, dtype=torch.float64, device=self.device)
        values = self._values[use].double()
        if request.kind == "uniform":
            values = 2 * values - 1
        picked = self.picked(use, probability=probability)
        return torch.where(picked.view(-1, *[1] * len(request.shape)), values, 0.0)

    def drawn(self, name: str) -> Tensor:
        """Return what was drawn under a name for a transform that is on, (n, *shape) float64."""
        return self._values[name].double()


def _transform(name: str) -> str:
    """Return the transform to which a draw belongs."""
    return name.partition("/")[0]
