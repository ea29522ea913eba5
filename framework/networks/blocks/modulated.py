"""Convolutions of StyleGAN2 (arXiv:1912.04958): with resampling, and with modulation and demodulation (section 2.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from framework.networks.blocks.precision import full_precision
from framework.networks.blocks.resample import downsampling_padding, upfirdn2d, upsampling_padding


def conv2d_resample(
    x: Tensor,
    weight: Tensor,
    *,
    filter: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    groups: int = 1,
    mirrored: bool = False,
) -> Tensor:
    """Upsample by `filter`, convolve, downsample by `filter`, without computing what resampling would discard.

    Args:
        x: (N, C, H, W).
        weight: (C', C / groups, k, k), convolved in the precision of x.
        filter: low-pass filter of the resampling, from `setup_filter`; None = the identity.
        up: factor of upsampling before the convolution.
        down: factor of downsampling after the convolution.
        padding: zeros around the enlarged image, in its pixels; k // 2 keeps the size.
        groups: number of groups of the convolution.
        mirrored: convolve with the kernel; otherwise correlate, as `torch.nn.functional.conv2d` does.

    Returns:
        (N, C', H up / down, W up / down) when `padding` keeps the size.

    Raises:
        FrameworkError: `up` or `down` is below 1.
    """
    weight = weight.to(x.dtype)
    pointwise = weight.shape[2:] == (1, 1)
    if up > 1:
        frame = upsampling_padding(filter, up=up, padding=padding)
        if pointwise and min(frame) >= 0 and padding == 0:  # commutes with resampling: convolve the smaller image
            x = functional.conv2d(x, weight, groups=groups)
            x = upfirdn2d(x, filter, up=up, padding=frame, gain=up**2)
        else:
            x = _upsampled_convolution(x, weight, filter, up=up, frame=frame, groups=groups, mirrored=mirrored)
        if down > 1:
            x = upfirdn2d(x, filter, down=down, padding=downsampling_padding(filter, down=down))
        return x
    kernel = weight.flip((2, 3)) if mirrored else weight
    if down > 1:  # the low-pass filter commutes with the convolution, which then visits the kept pixels only
        frame = downsampling_padding(filter, down=down, padding=padding)
        if pointwise:
            return functional.conv2d(upfirdn2d(x, filter, down=down, padding=frame), kernel, groups=groups)
        return functional.conv2d(upfirdn2d(x, filter, padding=frame), kernel, stride=down, groups=groups)
    return functional.conv2d(x, kernel, padding=padding, groups=groups)


def _upsampled_convolution(
    x: Tensor,
    weight: Tensor,
    filter: Tensor | None,
    *,
    up: int,
    frame: tuple[int, int, int, int],
    groups: int,
    mirrored: bool,
) -> Tensor:
    """Apply a transposed convolution, which skips the inserted zeros, then the filter; the two commute."""
    height, width = weight.shape[2:]
    kernel = weight if mirrored else weight.flip((2, 3))
    kernel = kernel.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    x = functional.conv_transpose2d(x, kernel, stride=up, groups=groups)
    left, right, top, bottom = frame
    # The transposed convolution has already enlarged the frame beyond the image.
    frame = (left - (width - 1), right - (width - up), top - (height - 1), bottom - (height - up))
    return upfirdn2d(x, filter, padding=frame, gain=up**2)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    noise: Tensor | None = None,
    filter: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    demodulate: bool = True,
    mirrored: bool = False,
    fused: bool = False,
    eps: float = 1e-8,
) -> Tensor:
    """Convolve with weights whose input channels are scaled per image; bring the output back to unit variance.

    Equations 1 and 3: `w' = s w`, then `w'' = w' / sqrt(sum(w'^2) + eps)` over input channels and kernel. Statistics
    are computed in the precision of the weight, outside autocast.

    Args:
        x: (N, C, H, W).
        weight: (C', C, k, k).
        styles: s, (N, C).
        noise: added to the result, broadcast to (N, C', H', W'); None adds nothing.
        filter: see `conv2d_resample`.
        up: see `conv2d_resample`.
        down: see `conv2d_resample`.
        padding: see `conv2d_resample`.
        demodulate: apply equation 3.
        mirrored: see `conv2d_resample`.
        fused: scale the weights of each image and convolve in groups, one per image, which needs less memory traffic;
            otherwise scale the activations before and after one ordinary convolution, which is equivalent and often
            faster.
        eps: added to the sum of squares in equation 3.

    Returns:
        (N, C', H', W') in the precision of x; H' and W' are those of `conv2d_resample`.

    Raises:
        FrameworkError: `up` or `down` is below 1.
    """
    # Demodulation: one factor per image and output channel.
    with full_precision(x):
        styles = styles.to(weight.dtype)
        if demodulate and x.dtype == torch.float16:
            # Demodulation undoes any common factor; these keep products and their sums within half precision's range.
            weight = weight / (weight.abs().amax((1, 2, 3), keepdim=True) * math.sqrt(weight[0].numel()))
            styles = styles / styles.abs().amax(1, keepdim=True)
        coefficients = None
        if demodulate:  # (N, C')
            coefficients = (styles.square() @ weight.square().sum((2, 3)).mT + eps).rsqrt()
    # The convolution, modulated in one of two equivalent ways.
    convolve = _per_image_weights if fused else _scaled_activations
    x = convolve(x, weight, styles, coefficients, filter=filter, up=up, down=down, padding=padding, mirrored=mirrored)
    return x if noise is None else x + noise.to(x.dtype)


def _scaled_activations(
    x: Tensor, weight: Tensor, styles: Tensor, coefficients: Tensor | None, **resampling: object
) -> Tensor:
    """Scale inputs by styles (N, C), convolve, and scale outputs by demodulation coefficients (N, C')."""
    x = conv2d_resample(x * styles.to(x.dtype)[:, :, None, None], weight, **resampling)  # type: ignore[arg-type]
    return x if coefficients is None else x * coefficients.to(x.dtype)[:, :, None, None]


def _per_image_weights(
    x: Tensor, weight: Tensor, styles: Tensor, coefficients: Tensor | None, **resampling: object
) -> Tensor:
    """Scale the weights of each image instead, and convolve all images in one grouped convolution."""
    batch = len(x)
    weights = weight * styles[:, None, :, None, None]
    if coefficients is not None:
        weights = weights * coefficients[:, :, None, None, None]
    x = conv2d_resample(x.flatten(0, 1)[None], weights.flatten(0, 1), groups=batch, **resampling)  # type: ignore[arg-type]
    return x.unflatten(1, (batch, -1)).squeeze(0)
