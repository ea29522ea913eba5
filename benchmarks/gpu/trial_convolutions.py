"""A trial, not the product: convolutions as autograd nodes with their own second derivative, to learn their worth.

Torch differentiates a grouped convolution twice by looping over its groups, and makes a weight gradient, which nobody
uses, for every constant filter: R1 of StyleGAN2 at 256 px takes 4,116 convolutions. The nodes here take one each, with
the same numbers (tests/unit/benchmarks/test_trial_convolutions.py); `patched` puts them in place for a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from framework.networks.blocks import resample

Sides = tuple[int, int]
_torch_conv2d = functional.conv2d


class ConstantFilter(torch.autograd.Function):
    """Every channel correlated with the same constant kernel, with a stride; or the transpose of that.

    It is linear in the images, so its backward is its transpose: the same node the other way round.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, kernel: Tensor, stride: Sides, transposed: bool, size: torch.Size | None
    ) -> Tensor:
        """Images (N, C, H, W) with a kernel (h, w); `size`: (H', W') of a transpose's result, None: the smallest."""
        ctx.kernel, ctx.stride, ctx.transposed, ctx.size = kernel, stride, transposed, images.shape[2:]
        channels = images.shape[1]
        weight = kernel.to(images.dtype).expand(channels, 1, *kernel.shape)
        if not transposed:
            return _torch_conv2d(images, weight, stride=stride, groups=channels)
        smallest = [(n - 1) * step + k for n, step, k in zip(images.shape[2:], stride, kernel.shape, strict=True)]
        extra = [0, 0] if size is None else [a - b for a, b in zip(size, smallest, strict=True)]
        return functional.conv_transpose2d(images, weight, stride=stride, groups=channels, output_padding=extra)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """The transpose, to the size of the input."""
        image = ConstantFilter.apply(gradient, ctx.kernel, ctx.stride, not ctx.transposed, ctx.size)
        return image, None, None, None, None


class GroupedConvolution(torch.autograd.Function):
    """A convolution in groups with stride 1 and padding, without bias."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
        """The result of `torch.nn.functional.conv2d`."""
        ctx.save_for_backward(images, weight)
        ctx.padding, ctx.groups = padding, groups
        return _torch_conv2d(images, weight, padding=padding, groups=groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Both gradients, themselves differentiable without a loop over groups."""
        images, weight = ctx.saved_tensors
        into_images, into_weight = ctx.needs_input_grad[:2]
        arguments = {"padding": ctx.padding, "groups": ctx.groups}
        return (
            functional.conv_transpose2d(gradient, weight, **arguments) if into_images else None,
            GroupedWeightGradient.apply(gradient, images, weight, ctx.padding, ctx.groups) if into_weight else None,
            None,
            None,
        )


class GroupedWeightGradient(torch.autograd.Function):
    """The gradient of a grouped convolution in its weight, a bilinear function of output gradient and images."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, images: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
        """A gradient of the shape of `weight`, whose values do not matter."""
        ctx.save_for_backward(gradient, images)
        ctx.padding, ctx.groups = padding, groups
        ones, no, sides = [1, 1], [0, 0], [padding, padding]
        mask = [False, True, False]
        return torch.ops.aten.convolution_backward(
            gradient, images, weight, None, ones, sides, ones, False, no, groups, mask
        )[1]

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Gradients in the output gradient and in the images."""
        gradient, images = ctx.saved_tensors
        return (
            GroupedConvolution.apply(images, direction, ctx.padding, ctx.groups),
            functional.conv_transpose2d(gradient, direction, padding=ctx.padding, groups=ctx.groups),
            None,
            None,
            None,
        )


@contextmanager
def patched(*, filters: bool = True, grouped: bool = False) -> Iterator[None]:
    """The nodes in place of what the framework does, within the block."""
    with ExitStack() as stack:
        if filters:
            stack.enter_context(mock.patch.object(resample, "_pass", _filter_pass))
        if grouped:
            stack.enter_context(mock.patch.object(functional, "conv2d", _conv2d))
        yield


def _filter_pass(
    images: Tensor, filter: Tensor, *, up: Sides, down: Sides, padding: tuple[int, int, int, int]
) -> Tensor:
    """`resample._pass` by `ConstantFilter`."""
    left, right, top, bottom = padding
    height, width = filter.shape
    if up == (1, 1):
        padded = _cast(functional.pad(images, padding))
        return ConstantFilter.apply(padded, filter.flip((0, 1)), down, False, None)
    full = ConstantFilter.apply(_cast(images), filter, up, True, None)
    frame = (left - (width - 1), right - (width - up[1]), top - (height - 1), bottom - (height - up[0]))
    return functional.pad(full, frame)[:, :, :: down[0], :: down[1]]


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sides = 1,
    padding: int | Sides = 0,
    dilation: int | Sides = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d`, by the node where it knows the case."""
    padding = padding if isinstance(padding, int) or padding[0] != padding[1] else padding[0]
    plain = stride in (1, (1, 1)) and dilation in (1, (1, 1)) and isinstance(padding, int) and bias is None
    if groups == 1 or not plain:
        return _torch_conv2d(input, weight, bias, stride, padding, dilation, groups)
    return GroupedConvolution.apply(_cast(input), _cast(weight), padding, groups)


def _cast(tensor: Tensor) -> Tensor:
    """What autocast makes of the input of a convolution; it does not look into autograd nodes of Python."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor
