"""Colour transforms of ADA (arXiv:2006.06676, appendix B): one affine map of RGB per image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from framework.augment.chance import Chance, when_picked
from framework.networks.draw import Request

DRAWS = {
    **when_picked("brightness", Request(kind="normal")),
    **when_picked("contrast", Request(kind="normal")),
    **when_picked("luma_flip", Request(kind="integers", high=2)),
    **when_picked("hue", Request(kind="uniform")),
    **when_picked("saturation", Request(kind="normal")),
}
"""What these transforms draw."""
TRANSFORMS = ("brightness", "contrast", "luma_flip", "hue", "saturation")


def recolor(images: Tensor, chance: Chance) -> Tensor:
    """Recolour (n, 3, H, W), or (n, 1, H, W) as if it had three equal channels; untouched images stay to the bit.

    With the grey diagonal as an axis, brightness shifts along it, contrast scales everything, the luma flip mirrors
    along it, hue turns around it and saturation scales the distance from it. Such maps treat the three channels
    alike, so their matrix is circulant: one gain for the channel itself, one for its left and one for its right
    neighbour.
    """
    if not chance.uses_any(TRANSFORMS):
        return images
    shift = 0.2 * chance.number("brightness")
    contrast = torch.exp2(0.5 * chance.number("contrast"))
    along = contrast * (1 - 2 * chance.number("luma_flip"))
    angle = math.pi * chance.number("hue")
    across = contrast * torch.exp2(chance.number("saturation"))
    offset = _per_image(along * shift, images)
    if images.shape[1] == 1:
        return _per_image(along, images) * images + offset
    parallel, turned = across * angle.cos(), across * angle.sin()
    own = _per_image((along + 2 * parallel) / 3, images)
    left = _per_image((along - parallel) / 3 + turned / math.sqrt(3), images)
    right = _per_image((along - parallel) / 3 - turned / math.sqrt(3), images)
    return own * images + left * images.roll(1, dims=1) + right * images.roll(-1, dims=1) + offset


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype)[:, None, None, None]
