"""Image-space filtering and corruptions of ADA (arXiv:2006.06676, appendix B)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from framework.augment.chance import Chance, when_picked
from framework.augment.wavelets import NUM_BANDS, octave_bank
from framework.networks.draw import Request

DRAWS = {
    **{
        name: request
        for band in range(NUM_BANDS)
        for name, request in when_picked(f"image_filter/{band}", Request(kind="normal")).items()
    },
    **when_picked("noise", Request(kind="normal")),
    "cutout/picked": Request(kind="uniform"),
    "cutout/centre": Request(kind="uniform", shape=(2,)),
}
"""What these transforms draw, besides the noise of each pixel."""

FILTER_REACH = octave_bank().shape[1] // 2
"""Number of pixels that filtering reads beyond the edge, by reflection: 21."""

_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)
"""Share of each octave in the power of natural images, whose spectrum falls as 1/f; the paper's lambda."""


def filter_octaves(images: Tensor, chance: Chance) -> Tensor:
    """Amplify the four octaves of images (n, C, H, W) at random; H and W must be 22 or more.

    Each octave has its own chance. Amplifying one scales all of them back, so that by itself it would keep the power
    of a natural image.
    """
    if not chance.uses_any(["image_filter"]):
        return images
    power = torch.tensor(_POWER, dtype=torch.float64, device=images.device)
    gains = torch.ones(len(images), NUM_BANDS, dtype=torch.float64, device=images.device)
    for band in range(NUM_BANDS):
        octave = torch.ones_like(gains)
        octave[:, band] = torch.exp2(chance.number(f"image_filter/{band}"))
        gains = gains * octave / (power * octave.square()).sum(1, keepdim=True).sqrt()
    bank = torch.as_tensor(octave_bank(), device=images.device)
    return _separable(images, (gains @ bank).to(images.dtype))


def _separable(images: Tensor, taps: Tensor) -> Tensor:
    """Filter (n, C, H, W) along rows and columns by one symmetric filter per image, (n, odd number of taps)."""
    num_images, channels, height, width = images.shape
    kernels = taps.repeat_interleave(channels, dim=0)[:, None, None]
    x = functional.pad(images, [taps.shape[1] // 2] * 4, mode="reflect").flatten(0, 1)[None]
    x = functional.conv2d(x, kernels, groups=len(kernels))
    x = functional.conv2d(x, kernels.mT, groups=len(kernels))
    return x.view(num_images, channels, height, width)


def add_noise(images: Tensor, chance: Chance) -> Tensor:
    """Add white noise to images (n, C, H, W); its standard deviation is drawn per image as |N(0, 0.1^2)|."""
    if not chance.uses_any(["noise"]):
        return images
    deviation = 0.1 * chance.number("noise").abs()
    noise = chance.draw.normal("noise/pixels", *images.shape[1:])
    return images + (deviation[:, None, None, None] * noise).to(images.dtype)


def cut_out(images: Tensor, chance: Chance) -> Tensor:
    """Set a rectangle of half the width and height of images (n, C, H, W) to 0; its centre is uniform in the image."""
    if not chance.uses_any(["cutout"]):
        return images
    height, width = images.shape[2:]
    picked = chance.picked("cutout")
    centre = chance.drawn("cutout/centre")
    inside_x = (_places(width, images) - centre[:, :1]).abs() < 0.25
    inside_y = (_places(height, images) - centre[:, 1:]).abs() < 0.25
    cut = picked[:, None, None] & inside_y[:, :, None] & inside_x[:, None, :]
    return torch.where(cut[:, None], 0.0, images)


def _places(size: int, images: Tensor) -> Tensor:
    """Return the centres of the pixels along one side, (size,) float64, as shares of the side."""
    return (torch.arange(size, dtype=torch.float64, device=images.device) + 0.5) / size
