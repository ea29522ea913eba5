"""Bilinear sampling that can be differentiated any number of times.

Torch's `grid_sample` gained a second derivative only after 2.8. Sampling is linear in the image, so its backward is the
transpose, whose backward is sampling again: two functions that are each other's derivative, in every version of torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def grid_sample(images: Tensor, grid: Tensor) -> Tensor:
    """Sample images (n, C, H, W) at positions (n, H', W', 2) from -1 to 1; return (n, C, H', W').

    The result is that of torch's function with `align_corners=False` and zeros outside. It is not differentiable in the
    grid.
    """
    return _Sample.apply(images, grid.detach())


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape
        return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradient, grid, ctx.size), None


class _Spread(torch.autograd.Function):
    """The transpose of sampling: every sample is added to the pixels it was made of, by the same weights."""

    @staticmethod
    def forward(ctx: Any, samples: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        # The values of the images matter for the grid's gradient only, which is not asked for.
        images = samples.new_zeros(()).expand(size)
        bilinear, zeros, align_corners = 0, 0, False
        spread, _ = torch.ops.aten.grid_sampler_2d_backward(
            samples, images, grid, bilinear, zeros, align_corners, (True, False)
        )
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradient, grid), None, None
