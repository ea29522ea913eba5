"""Pixel blitting and general geometric transforms of ADA (arXiv:2006.06676, appendix B).

All of them together are one affine map per image, carried out by one resampling: reflect beyond the edges, enlarge
twice, sample bilinearly, shrink. Enlarging and shrinking by the orthogonal low-pass filter of the sym6 wavelet are each
other's transpose and inverse, so an image that is not moved, or moved by whole pixels, is not blurred.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from framework.augment.chance import Chance, when_picked
from framework.augment.gridsample import grid_sample
from framework.augment.wavelets import SYM6
from framework.networks.blocks.resample import upfirdn2d, upsample2d
from framework.networks.draw import Request

TRANSFORMS = (
    "x_flip",
    "rotate90",
    "integer_translation",
    "isotropic_scale",
    "rotation",
    "anisotropic_scale",
    "fractional_translation",
)
TURNING = ("x_flip", "rotate90", "rotation")
"""Transforms that carry a side of the image to another place; they are published for square images."""

DRAWS = {
    **when_picked("x_flip", Request(kind="integers", high=2)),
    **when_picked("rotate90", Request(kind="integers", high=4)),
    **when_picked("integer_translation", Request(kind="uniform", shape=(2,))),
    **when_picked("isotropic_scale", Request(kind="normal")),
    **when_picked("rotation/before", Request(kind="uniform")),
    **when_picked("anisotropic_scale", Request(kind="normal")),
    **when_picked("rotation/after", Request(kind="uniform")),
    **when_picked("fractional_translation", Request(kind="normal", shape=(2,))),
}
"""What these transforms draw."""

_FINE_MARGIN = 5
"""Number of enlarged pixels that shrinking reads beyond the edges: 12 taps around each second pixel, minus 1."""
_NEIGHBOURHOOD = 0.5 + 3.0
"""Distance in pixels that a sample reads: one pixel of the enlarged image, each made of 12 taps half a pixel apart."""


def move(images: Tensor, chance: Chance) -> Tensor:
    """Apply all geometric transforms to images (n, C, H, W); return the same shape."""
    if not chance.uses_any(TRANSFORMS):
        return images
    return warp(images, source_positions(chance, height=images.shape[2], width=images.shape[3]))


def source_positions(chance: Chance, *, height: int, width: int) -> Tensor:
    """Return the matrices (n, 3, 3) float64 that map each place of the result to the place in the image it comes from.

    Positions are homogeneous (x, y, 1) in pixels from the image's centre, x to the right and y downwards. This is the
    inverse of the paper's G, hence the product of the inverses of its steps from left to right.
    """
    # Every draw is that of the identity where its transform leaves the image alone.
    mirrored = 1 - 2 * chance.number("x_flip")
    quarters = chance.number("rotate90")
    whole_shift = (0.125 * _pixels(chance.number("integer_translation"), height=height, width=width)).round()
    scale = torch.exp2(0.2 * chance.number("isotropic_scale"))
    # Two rotations, each so probable that an image is rotated at all with probability p.
    each = 1 - math.sqrt(1 - chance.probability("rotation"))
    before = chance.number("rotation/before", probability=each)
    stretch = torch.exp2(0.2 * chance.number("anisotropic_scale"))
    after = chance.number("rotation/after", probability=each)
    shift = 0.125 * _pixels(chance.number("fractional_translation"), height=height, width=width)

    # The inverses of the paper's steps, in its order.
    steps = (
        _scaling(mirrored, torch.ones_like(mirrored)),
        _rotation(0.5 * math.pi * quarters),
        _translation(-whole_shift),
        _scaling(1 / scale, 1 / scale),
        _rotation(math.pi * before),
        _scaling(1 / stretch, stretch),
        _rotation(math.pi * after),
        _translation(-shift),
    )
    return reduce(torch.matmul, steps)


def warp(images: Tensor, positions: Tensor) -> Tensor:
    """Move images (n, C, H, W) by positions (n, 3, 3); an image that stays where it is comes back to the bit.

    The image is continued by reflection as far as one reflection goes, and by zeros beyond. The call waits for the
    device once, to learn how far the images must be continued.

    Args:
        positions: see `source_positions`.
    """
    # Continue and enlarge, so that sampling neither leaves the image nor aliases.
    height, width = images.shape[2:]
    margin_x, margin_y = _margins(positions, height=height, width=width)
    taps = torch.tensor(SYM6, dtype=images.dtype, device=images.device) / math.sqrt(2)
    continued = functional.pad(images, (margin_x, margin_x, margin_y, margin_y), mode="reflect")
    enlarged = upsample2d(continued, taps)

    # Sample, shrink, and keep images that do not move as they are.
    grid = _sampling_grid(
        positions, height=height, width=width, margin_x=margin_x, margin_y=margin_y, dtype=images.dtype
    )
    sampled = grid_sample(enlarged, grid)
    warped = upfirdn2d(sampled, taps, down=2, flip_filter=True)
    stays = (positions == torch.eye(3, dtype=positions.dtype, device=positions.device)).all(2).all(1)
    return torch.where(stays[:, None, None, None], images, warped)


def _margins(positions: Tensor, *, height: int, width: int) -> tuple[int, int]:
    """Return the pixels by which images are continued at the left and right, and at the top and bottom."""
    size = positions.new_tensor([width, height])
    corner = (size + _FINE_MARGIN) / 2
    reach = positions[:, :2, :2].abs() @ corner + positions[:, :2, 2].abs()
    needed = (reach.amax(0) + _NEIGHBOURHOOD - (size - 1) / 2).ceil().clamp(min=0).minimum(size - 1)
    margin_x, margin_y = needed.tolist()
    return int(margin_x), int(margin_y)


def _sampling_grid(
    positions: Tensor, *, height: int, width: int, margin_x: int, margin_y: int, dtype: torch.dtype
) -> Tensor:
    """Return where to sample the enlarged, continued images, (n, 2H + 10, 2W + 10, 2), from -1 to 1 between the edges.

    The wavelet's centre of gravity lies on its sixth tap (at 5.10, counted from 0), so pixel i of the image is at the
    centre of pixel 2i of the enlarged one, a quarter of a pixel left of the middle of 2i and 2i + 1. Written out
    rather than by `affine_grid`, whose matrix product may be rounded to TF32.
    """
    half = positions.new_tensor([width / 2 + margin_x, height / 2 + margin_y])
    to_grid = positions[:, None, None, :2] / half[:, None]
    to_grid[..., 2] -= 0.25 / half
    across, down, shift = to_grid.to(dtype).unbind(-1)
    x, y = (_fine_positions(size).to(across) for size in (width, height))
    return across * x[None, None, :, None] + down * y[None, :, None, None] + shift


def _fine_positions(size: int) -> Tensor:
    """Return the places of the enlarged image's pixels with its margin, in pixels of the image from its centre."""
    return (torch.arange(-_FINE_MARGIN, 2 * size + _FINE_MARGIN) - (size - 1)) / 2


def _pixels(share: Tensor, *, height: int, width: int) -> Tensor:
    """Convert shares (n, 2) of the image's sides, x and y, to pixels."""
    return share * share.new_tensor([width, height])


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: Tensor) -> Tensor:
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).unflatten(1, (3, 3))


def _translation(shift: Tensor) -> Tensor:
    matrix = torch.eye(3, dtype=shift.dtype, device=shift.device).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix
