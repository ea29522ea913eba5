"""A Gaussian blur in front of the discriminator, for the first images of StyleGAN3-r (arXiv:2106.12423, section 3.2).

It keeps the discriminator from high frequencies before the generator has learnt low ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from framework.networks.blocks.resample import filter2d

_REACH = 3.0
"""Length of the filter on each side, in standard deviations."""


def gaussian_blur(images: Tensor, *, sigma: float) -> Tensor:
    """Blur images (N, C, H, W) and return the same shape; differentiable any number of times.

    At the edges, the part of the filter inside the image is normalised to 1.

    Args:
        images: images of any range.
        sigma: standard deviation in pixels; at 0 and below, the images themselves are returned.
    """
    reach = math.ceil(_REACH * sigma)
    if reach < 1:
        return images
    positions = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
    taps = torch.exp(-0.5 * (positions / sigma).square())
    taps = taps / taps.sum()
    inside = filter2d(torch.ones_like(images[:1, :1]), taps)
    return filter2d(images, taps) / inside
