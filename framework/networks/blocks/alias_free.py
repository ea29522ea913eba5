"""Low-pass filters and the filtered nonlinearity of StyleGAN3 (arXiv:2106.12423, section 3.2 and appendix C).

A pointwise nonlinearity creates frequencies above what the sampling grid can represent; they would alias into patterns
that stick to the grid. The signal is therefore upsampled before it, and low-pass filtered and downsampled after it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from framework.networks.blocks.activation import bias_act
from framework.networks.blocks.resample import upfirdn2d


def kaiser_beta(num_taps: int, *, transition: float) -> float:
    """Return the shape parameter beta of a Kaiser window, by Kaiser's empirical formulas (eqs 7 and 8).

    Args:
        num_taps: n, the filter's length.
        transition: width of the transition band as a share of half the sampling rate.
    """
    attenuation = 2.285 * (num_taps - 1) * math.pi * transition + 7.95  # in dB
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def lowpass_filter(
    num_taps: int, *, cutoff: float, half_width: float, sampling_rate: float, radial: bool = False
) -> Tensor:
    """Return a windowed ideal low-pass filter with sum 1 (eqs 6, 11 and 12).

    Args:
        num_taps: n, the filter's length.
        cutoff: f_c, in the unit of the sampling rate.
        half_width: f_h, half the width of the transition band about f_c.
        sampling_rate: rate at which the filtered signal is sampled.
        radial: use a jinc, whose cutoff is the same in every direction, instead of a sinc along each axis.

    Returns:
        float32: (n,), to be applied along both axes, or (n, n) if `radial`.
    """
    window = torch.kaiser_window(
        num_taps,
        periodic=False,
        beta=kaiser_beta(num_taps, transition=2 * half_width / (sampling_rate / 2)),
        dtype=torch.float64,
    )
    positions = (torch.arange(num_taps, dtype=torch.float64) - (num_taps - 1) / 2) / sampling_rate
    if radial:
        # The window stays separable, which keeps its spectral properties (appendix C.4).
        distances = torch.hypot(positions[:, None], positions[None, :])
        taps = jinc(2 * cutoff * distances) * window[:, None] * window[None, :]
    else:
        taps = torch.sinc(2 * cutoff * positions) * window
    return (taps / taps.sum()).float()


def jinc(x: Tensor) -> Tensor:
    """Return `2 J1(pi x) / (pi x)`, the sinc of two dimensions, with the Bessel function J1; 1 at x = 0.

    Args:
        x: any shape, not negative.
    """
    argument = (math.pi * x).clamp(min=1e-5)  # where the value is 1 up to 1e-11
    # Bessel's integral `1/pi int_0^pi cos(t - x sin t) dt` by the midpoint rule, which for a periodic function is exact
    # to rounding while x < 200. torch.special.bessel_j1 is wrong by 5e-7 near x = 5.
    angles = (torch.arange(128, dtype=x.dtype, device=x.device) + 0.5) * (math.pi / 128)
    return 2 * torch.cos(angles - argument[..., None] * torch.sin(angles)).mean(-1) / argument


def filtered_leaky_relu(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    up_filter: Tensor | None = None,
    down_filter: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    slope: float = 0.2,
    gain: float = math.sqrt(2.0),
    clamp: float | None = None,
    flip_filter: bool = False,
) -> Tensor:
    """Apply a leaky ReLU at `up` times the sampling rate of x (section 3.2).

    The steps are: add the bias, pad, upsample by `up`, apply `gain * leaky_relu`, limit to [-clamp, clamp], downsample
    by `down`. All of them are plain torch, so autograd gives derivatives of any order.

    Args:
        x: (N, C, H, W).
        bias: (C,); None adds nothing.
        up_filter: (n,) or (n, n) for upsampling; None = no filter.
        down_filter: the same for downsampling.
        up: integer factor of upsampling.
        down: integer factor of downsampling.
        padding: left, right, top, bottom in upsampled pixels; negative numbers crop.
        slope: slope below zero.
        gain: factor on the result, on both sides of zero.
        clamp: bound on the absolute value, against overflow in half precision; None = no bound.
        flip_filter: correlate with the filters instead of convolving.

    Returns:
        (N, C, H', W') with `H' = ceil((H * up + top + bottom - (up taps - 1) - (down taps - 1)) / down)`.

    Raises:
        FrameworkError: `up` or `down` is below 1.
    """
    if bias is not None:
        x = bias_act(x, bias)
    # The zeros between the samples divide the signal's mean by up^2: the gain restores it.
    x = upfirdn2d(x, up_filter, up=up, padding=padding, gain=up**2, flip_filter=flip_filter)
    x = bias_act(x, activation="lrelu", alpha=slope, gain=gain, clamp=clamp)
    return upfirdn2d(x, down_filter, down=down, flip_filter=flip_filter)


def centred_padding(
    *, size_in: int, size_out: int, up: int, down: int, up_taps: int, down_taps: int
) -> tuple[int, int]:
    """Return the padding before and after one axis, in upsampled pixels, that keeps the map's centre in place.

    Sample j of the input lies at `before + j * up`; output k looks at a window of `up_taps + down_taps - 1` upsampled
    pixels that begins at `k * down`. The middles of both rows coincide if

        before + (size_in - 1) * up / 2 = (size_out - 1) * down / 2 + (up_taps - 1) / 2 + (down_taps - 1) / 2.

    Negative numbers crop, which removes a margin that is no longer needed.

    Args:
        size_in: side of the input.
        size_out: side of the output.
        up: factor of upsampling.
        down: factor of downsampling.
        up_taps: length of the upsampling filter.
        down_taps: length of the downsampling filter.
    """
    doubled = (size_out - 1) * down + up_taps + down_taps - 2 - (size_in - 1) * up
    assert doubled % 2 == 0, "the rows cannot be centred: their sizes differ in parity"
    before = doubled // 2
    total = (size_out - 1) * down + 1 + up_taps + down_taps - 2 - size_in * up
    return before, total - before
