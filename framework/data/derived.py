"""Fields that are computed on the device from other fields and from draws, and so are functions of the clock.

They are named in a recipe, `Shards(..., derive=(Holes("holes", of="image"),))`, and take part in a sample like those
that are read. Their random numbers come from the game, so they are the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from framework.data.errors import DataError
from framework.networks.draw import Draw
from framework.recipe.sources import DerivedField as DescribedField
from framework.utils.ranges import Range, check_numbers


class DerivedField(DescribedField, Protocol):
    """A pure function of the fields of a sample and of random numbers."""

    def tensors(self, fields: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Return what is computed, by name, for n samples on the device.

        Args:
            fields: the fields before it as networks get them, each (n, ...).
            draw: random numbers of the samples.
        """
        ...


def with_derived(fields: Mapping[str, Tensor], derive: Sequence[DerivedField], draw: Draw) -> dict[str, Tensor]:
    """Return the fields of n samples and, after them, those that are derived, in their order.

    Raises:
        DataError: a field cannot be derived from what there is; names it.
    """
    found = dict(fields)
    for one in derive:
        if one.of not in found:
            raise DataError(f"field {one.name!r} is derived from {one.of!r}; there are {', '.join(found)}")
        found |= one.tensors(found, draw)
    return found


@dataclass(frozen=True)
class LowResolution:
    """A copy of a picture with a smaller side, each pixel the mean of `factor` x `factor` others.

    Raises:
        FrameworkError: a number that is out of range.
    """

    name: str
    of: str
    factor: Annotated[int, Range(least=2)] = 4
    """How many times smaller the sides are."""

    def __post_init__(self) -> None:
        check_numbers(self)

    def derived(self) -> dict[str, int]:
        """Return `factor`, the option that networks take from it."""
        return {"factor": self.factor}

    def tensors(self, fields: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Return (n, C, H / factor, W / factor) for a picture (n, C, H, W).

        Raises:
            DataError: a side is no multiple of the factor.
        """
        height, width = fields[self.of].shape[-2:]
        if height % self.factor or width % self.factor:
            raise DataError(f"field {self.name!r}: {width}x{height} pixels are no multiple of {self.factor}")
        return {self.name: functional.avg_pool2d(fields[self.of], self.factor)}


@dataclass(frozen=True)
class Holes:
    """A mask of rectangular holes for inpainting: 1 where the picture is missing, 0 where it is known.

    Raises:
        FrameworkError: a number that is out of range.
        DataError: the largest hole is smaller than the smallest one.
    """

    name: str
    of: str
    count: Annotated[int, Range(least=1, most=1000)] = 1
    """The number of holes, which may overlap."""
    least_side: Annotated[float, Range(above=0, most=1)] = 0.25
    """The smallest side of a hole as a share of the picture's; sides are drawn uniformly."""
    most_side: Annotated[float, Range(above=0, most=1)] = 0.5
    """The largest side."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.most_side < self.least_side:
            raise DataError(f"field {self.name!r}: most_side={self.most_side} is below least_side={self.least_side}")

    def derived(self) -> dict[str, int]:
        """Return nothing: networks take no option from it."""
        return {}

    def tensors(self, fields: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Return a mask (n, 1, H, W) for a picture (n, C, H, W), in its type."""
        picture = fields[self.of]
        numbers = draw.uniform(self.name, self.count, 4).float()
        rows = _inside(numbers[..., 0], numbers[..., 1], picture.shape[-2], self.least_side, self.most_side)
        columns = _inside(numbers[..., 2], numbers[..., 3], picture.shape[-1], self.least_side, self.most_side)
        holes = (rows[:, :, :, None] & columns[:, :, None, :]).any(1)
        return {self.name: holes[:, None].to(picture.dtype)}


def _inside(length: Tensor, place: Tensor, side: int, least: float, most: float) -> Tensor:
    """Return which of `side` pixels lie in each of k intervals of n samples, bool (n, k, side).

    Args:
        length: uniform numbers (n, k) for the lengths of the intervals.
        place: uniform numbers (n, k) for their places.
        side: number of pixels.
        least: smallest length as a share of the side.
        most: largest length.
    """
    pixels = ((least + (most - least) * length) * side).round().clamp(1, side)
    first = (place * (side - pixels + 1)).floor()
    at = torch.arange(side, device=length.device)
    return (at >= first[..., None]) & (at < (first + pixels)[..., None])


@dataclass(frozen=True)
class Edges:
    """The edges of a picture by Sobel's operator: how steep its brightness is, from 0 in flat places.

    A step from the darkest to the brightest value, -1 to 1, has the strength 1 on both of its sides, which is also the
    largest. The brightness is the mean over channels, and the border is continued outwards.

    Raises:
        FrameworkError: a number that is out of range.
    """

    name: str
    of: str
    threshold: Annotated[float, Range(least=0, most=1)] = 0.0
    """Strengths from here on become 1 and the others 0; 0: they stay as they are."""

    def __post_init__(self) -> None:
        check_numbers(self)

    def derived(self) -> dict[str, int]:
        """Return `channels`, 1, the option that networks take from it."""
        return {"channels": 1}

    def tensors(self, fields: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Return strengths (n, 1, H, W) from 0 to 1 for a picture (n, C, H, W) in [-1, 1], in its type."""
        brightness = fields[self.of].mean(1, keepdim=True)
        across = brightness.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        kernels = torch.stack([across, across.T])[:, None]
        slopes = functional.conv2d(functional.pad(brightness, (1, 1, 1, 1), mode="replicate"), kernels)
        strength = torch.linalg.vector_norm(slopes, dim=1, keepdim=True).clamp(max=1)
        return {self.name: (strength >= self.threshold).to(strength.dtype) if self.threshold else strength}


@dataclass(frozen=True)
class OneHot:
    """A label or a label map with one channel per class: 1 in the channel of the class, 0 in the others.

    Raises:
        FrameworkError: a number that is out of range.
    """

    name: str
    of: str
    classes: Annotated[int, Range(least=1)]
    """The number of channels."""

    def __post_init__(self) -> None:
        check_numbers(self)

    def derived(self) -> dict[str, int]:
        """Return `channels`, the option that networks take from it."""
        return {"channels": self.classes}

    def tensors(self, fields: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Return float32 (n, classes, ...) for class numbers (n, ...) int64."""
        one_hot = functional.one_hot(fields[self.of], self.classes)
        return {self.name: one_hot.movedim(-1, 1).float()}
