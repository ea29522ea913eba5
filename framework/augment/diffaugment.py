"""Differentiable augmentation (Zhao et al. 2020, arXiv:2006.10738): colour, translation and cutout for every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from framework.networks.draw import Draw
from framework.utils.errors import FrameworkError

Policy = Literal["color", "translation", "cutout"]


@dataclass(frozen=True, kw_only=True)
class DiffAugment:
    """Applies the named policies, in that order, to every image of (n, C, H, W).

    There is nothing to adapt: any strength but 0 applies them fully.

    Raises:
        FrameworkError: a policy that does not exist, one that is named twice, or none at all.
    """

    policies: tuple[Policy, ...] = ("color", "translation", "cutout")

    start: ClassVar[float] = 1.0
    every: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        valid = get_args(Policy)
        if not self.policies or len(set(self.policies)) != len(self.policies) or not set(self.policies) <= set(valid):
            raise FrameworkError(f"DiffAugment: policies={self.policies} must be one or more of: {', '.join(valid)}")

    def check(self, *, channels: int, height: int, width: int) -> None:
        """Accept images of any size and number of channels."""

    def __call__(self, images: Tensor, *, strength: float, draw: Draw) -> Tensor:
        """Augment images (n, C, H, W) in [-1, 1]; see `framework.augment.Augmentation`."""
        if strength == 0:
            return images
        for policy in self.policies:
            images = _POLICIES[policy](images, draw)
        return images

    def adjusted(self, strength: float, *, sign: float, images: int) -> float:
        """Return the same strength."""
        return strength


def recolor(images: Tensor, draw: Draw) -> Tensor:
    """Shift brightness by [-0.5, 0.5), then scale saturation by [0, 2), then contrast by [0.5, 1.5), drawn per image.

    Takes and returns images (n, C, H, W); they may leave [-1, 1].
    """
    images = images + (_per_image(draw.uniform("brightness"), images) - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * _per_image(draw.uniform("saturation"), images))
    level = images.mean((1, 2, 3), keepdim=True)
    return level + (images - level) * (_per_image(draw.uniform("contrast"), images) + 0.5)


def translate(images: Tensor, draw: Draw) -> Tensor:
    """Shift images (n, C, H, W) by whole pixels, up to an eighth of each side; zeros come in at the edges."""
    for dim in (2, 3):
        size = images.shape[dim]
        reach = _rounded(size / 8)
        shift = draw.integers(f"translation/{'yx'[dim - 2]}", 2 * reach + 1) - reach
        source = torch.arange(size, device=images.device) + shift[:, None]
        inside = (source >= 0) & (source < size)
        index = _along(source.clamp(0, size - 1), dim)
        images = images.gather(dim, index.expand_as(images)) * _along(inside, dim)
    return images


def cut_out(images: Tensor, draw: Draw) -> Tensor:
    """Set a rectangle of half the height and width of images (n, C, H, W) to 0; its middle is uniform in the image."""
    cut = torch.ones((), dtype=torch.bool, device=images.device)
    for dim in (2, 3):
        size = images.shape[dim]
        side = _rounded(size / 2)
        # An even side has its middle between pixels, one place more than there are pixels.
        middle = draw.integers(f"cutout/{'yx'[dim - 2]}", size + 1 - side % 2)[:, None]
        place = torch.arange(size, device=images.device) - (middle - side // 2)
        cut = cut & _along((place >= 0) & (place < side), dim)
    return images * ~cut


_POLICIES = {"color": recolor, "translation": translate, "cutout": cut_out}


def _rounded(length: float) -> int:
    """Round to the nearest number of pixels, halves upwards."""
    return int(length + 0.5)


def _along(values: Tensor, dim: int) -> Tensor:
    """Reshape (n, size) to (n, 1, size, 1) for dim 2, or (n, 1, 1, size) for dim 3."""
    return values[:, None, :, None] if dim == 2 else values[:, None, None, :]


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype)[:, None, None, None]
