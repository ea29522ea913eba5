"""Resampling of images with FIR filters in plain torch, differentiable any number of times.

`upfirdn2d` inserts zeros between pixels, pads, filters and keeps one pixel in `down`. The other functions choose its
padding so that images stay in place. Filters are *convolved* with the image (the kernel is mirrored), unless
`flip_filter` is set, which matters for asymmetric filters only. StyleGAN2 resamples by [1, 3, 3, 1]
(arXiv:1912.04958, appendix B, after Zhang, arXiv:1904.11486).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from framework.utils.errors import FrameworkError

Pair = int | Sequence[int]
"""One number for both directions, or (horizontal, vertical)."""
Padding = int | Sequence[int]
"""Pixels added on every side, or (x, y), or (left, right, top, bottom); negative numbers crop."""

_SEPARABLE_FROM = 8
"""Number of taps from which two passes, over rows and columns, are cheaper than one two-dimensional filter."""


def setup_filter(
    taps: Sequence[float] | Sequence[Sequence[float]] | Tensor | None,
    *,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1.0,
    separable: bool | None = None,
) -> Tensor:
    """Return a float32 filter for the functions below: (taps,) if separable, else (height, width).

    Args:
        taps: (taps,) of a separable filter, a two-dimensional filter (height, width), or None for the identity.
        normalize: scale to unit sum, so that constant images keep their value.
        flip_filter: mirror the filter.
        gain: factor on the image (in both directions together).
        separable: keep one-dimensional taps so; None: from 8 taps, below which one dense pass is cheaper.

    Raises:
        FrameworkError: `taps` has more than two dimensions, or is empty.
    """
    taps = torch.as_tensor(1.0 if taps is None else taps, dtype=torch.float32)
    if taps.dim() > 2 or taps.numel() == 0:
        raise FrameworkError(f"taps of shape {tuple(taps.shape)} must be (taps,) or (height, width)")
    if taps.dim() == 0:
        taps = taps[None]
    if taps.dim() == 1 and not (len(taps) >= _SEPARABLE_FROM if separable is None else separable):
        taps = torch.outer(taps, taps)
    if normalize:
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(list(range(taps.dim())))
    return taps * gain ** (taps.dim() / 2)


def upfirdn2d(
    images: Tensor,
    filter: Tensor | None,
    *,
    up: Pair = 1,
    down: Pair = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Upsample by inserting zeros, pad, filter, and downsample by dropping pixels.

    Args:
        images: (N, C, H, W).
        filter: from `setup_filter`; None: the identity.
        up: every pixel is followed by `up - 1` zeros.
        down: pixels 0, down, 2 down, ... of the filtered image are kept.
        padding: zeros added, in pixels of the enlarged image; see `Padding`.
        flip_filter: correlate with the filter instead of convolving.
        gain: factor on the result.

    Returns:
        (N, C, H', W') in the precision of the images, `W' = ceil((W up + left + right - taps + 1) / down)`.

    Raises:
        FrameworkError: `up` or `down` is below 1.
    """
    (up_x, up_y), (down_x, down_y) = _pair(up), _pair(down)
    left, right, top, bottom = _sides(padding)
    if filter is None:
        filter = images.new_ones(1, 1)
    filter = filter * gain ** (filter.dim() / 2)
    if flip_filter:
        filter = filter.flip(list(range(filter.dim())))
    filter = filter.to(images.dtype)
    # A separable filter runs over rows, then over columns.
    if filter.dim() == 2:
        return _pass(images, filter, up=(up_y, up_x), down=(down_y, down_x), padding=(left, right, top, bottom))
    rows = _pass(images, filter[None, :], up=(1, up_x), down=(1, down_x), padding=(left, right, 0, 0))
    return _pass(rows, filter[:, None], up=(up_y, 1), down=(down_y, 1), padding=(0, 0, top, bottom))


def _pass(
    images: Tensor, filter: Tensor, *, up: tuple[int, int], down: tuple[int, int], padding: tuple[int, int, int, int]
) -> Tensor:
    """Resample by one convolution with a filter (height, width); `up` and `down` are (vertical, horizontal)."""
    left, right, top, bottom = padding
    height, width = filter.shape
    channels = images.shape[1]
    if up == (1, 1):
        kernel = filter.flip((0, 1)).expand(channels, 1, height, width)
        return functional.conv2d(functional.pad(images, padding), kernel, stride=down, groups=channels)
    # A transposed convolution never multiplies the inserted zeros. It returns every position at which the filter
    # touches the image; padding then moves the frame.
    kernel = filter.expand(channels, 1, height, width)
    full = functional.conv_transpose2d(images, kernel, stride=up, groups=channels)
    frame = (
        left - (width - 1),
        right - (width - up[1]),
        top - (height - 1),
        bottom - (height - up[0]),
    )
    return functional.pad(full, frame)[:, :, :: down[0], :: down[1]]


def filter2d(
    images: Tensor, filter: Tensor | None, *, padding: Padding = 0, flip_filter: bool = False, gain: float = 1.0
) -> Tensor:
    """Filter images (N, C, H, W); the size stays the same unless `padding` adds to it.

    Args:
        images: (N, C, H, W).
        filter: from `setup_filter`; None: the identity.
        padding: see `Padding`.
        flip_filter: correlate with the filter instead of convolving.
        gain: factor on the result.
    """
    width, height = _taps(filter)
    left, right, top, bottom = _sides(padding)
    centred = (left + width // 2, right + (width - 1) // 2, top + height // 2, bottom + (height - 1) // 2)
    return upfirdn2d(images, filter, padding=centred, flip_filter=flip_filter, gain=gain)


def upsample2d(
    images: Tensor,
    filter: Tensor | None,
    *,
    up: Pair = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Upsample (N, C, H, W) to (N, C, up H, up W) and keep the image's mean value.

    Args:
        images: (N, C, H, W).
        filter: from `setup_filter`; None: the identity.
        up: factor of upsampling.
        padding: pixels added to the result; see `Padding`.
        flip_filter: correlate with the filter instead of convolving.
        gain: factor on the result.

    Raises:
        FrameworkError: `up` is below 1.
    """
    up_x, up_y = _pair(up)
    padding = upsampling_padding(filter, up=up, padding=padding)
    return upfirdn2d(images, filter, up=up, padding=padding, flip_filter=flip_filter, gain=gain * up_x * up_y)


def downsample2d(
    images: Tensor,
    filter: Tensor | None,
    *,
    down: Pair = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Downsample (N, C, H, W) to (N, C, H / down, W / down).

    Args:
        images: (N, C, H, W).
        filter: from `setup_filter`; None: the identity.
        down: factor of downsampling.
        padding: pixels added before `down` is applied; see `Padding`.
        flip_filter: correlate with the filter instead of convolving.
        gain: factor on the result.

    Raises:
        FrameworkError: `down` is below 1.
    """
    padding = downsampling_padding(filter, down=down, padding=padding)
    return upfirdn2d(images, filter, down=down, padding=padding, flip_filter=flip_filter, gain=gain)


def upsampling_padding(filter: Tensor | None, *, up: Pair, padding: Padding = 0) -> tuple[int, int, int, int]:
    """Return the padding with which `upfirdn2d` multiplies the size by exactly `up`.

    Args:
        filter: (taps,) or (height, width); None: the identity.
        up: factor of upsampling.
        padding: added to the result; see `Padding`.

    Returns:
        Left, right, top, bottom in pixels of the enlarged image.

    Raises:
        FrameworkError: `up` is below 1.
    """
    (width, height), (up_x, up_y) = _taps(filter), _pair(up)
    left, right, top, bottom = _sides(padding)
    return (
        left + (width + up_x - 1) // 2,
        right + (width - up_x) // 2,
        top + (height + up_y - 1) // 2,
        bottom + (height - up_y) // 2,
    )


def downsampling_padding(filter: Tensor | None, *, down: Pair, padding: Padding = 0) -> tuple[int, int, int, int]:
    """Return the padding with which `upfirdn2d` divides the size by exactly `down`.

    Args:
        filter: (taps,) or (height, width); None: the identity.
        down: factor of downsampling.
        padding: added to the result; see `Padding`.

    Returns:
        Left, right, top, bottom in pixels of the image.

    Raises:
        FrameworkError: `down` is below 1.
    """
    (width, height), (down_x, down_y) = _taps(filter), _pair(down)
    left, right, top, bottom = _sides(padding)
    return (
        left + (width - down_x + 1) // 2,
        right + (width - down_x) // 2,
        top + (height - down_y + 1) // 2,
        bottom + (height - down_y) // 2,
    )


def _taps(filter: Tensor | None) -> tuple[int, int]:
    """Return the (horizontal, vertical) length of a filter."""
    return (1, 1) if filter is None else (filter.shape[-1], filter.shape[0])


def _pair(value: Pair) -> tuple[int, int]:
    """Return a factor as (horizontal, vertical), or raise a FrameworkError if it is below 1."""
    x, y = (value, value) if isinstance(value, int) else value
    if min(x, y) < 1:
        raise FrameworkError(f"the resampling factor {value} must be at least 1")
    return x, y


def _sides(padding: Padding) -> tuple[int, int, int, int]:
    """Return a padding as (left, right, top, bottom)."""
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) == 2:
        x, y = padding
        return x, x, y, y
    left, right, top, bottom = padding
    return left, right, top, bottom
