"""The frequencies of StyleGAN3's layers: "flexible layer specifications" (arXiv:2106.12423, eqs 35 and 36).

Frequencies and sampling rates are in cycles and samples per width of the image: a signal sampled at rate s holds
frequencies below s / 2. The file is pure arithmetic, so that the whole schedule can be printed and tested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class Signal:
    """The signal that one layer passes to the next: its sampling rate, spectrum and size."""

    sampling_rate: int
    """s: pixels per width of the image."""
    cutoff: float
    """f_c: all frequencies below it pass."""
    half_width: float
    """f_h: half of the transition band; frequencies above `cutoff + half_width` are suppressed."""
    size: int
    """Side of the feature map in pixels: the image and a margin on each side, which keeps border effects outside."""
    channels: int
    """Number of feature maps."""
    critical: bool
    """Whether it is critically sampled: all frequencies up to half the sampling rate are used."""

    @property
    def stopband(self) -> float:
        """The frequency f_c + f_h above which the signal is suppressed."""
        return self.cutoff + self.half_width


def flexible_layers(
    *,
    resolution: int,
    num_layers: int,
    num_critical: int,
    first_cutoff: float,
    first_stopband: float,
    last_stopband_ratio: float,
    margin: int,
    channel_base: int,
    channel_max: int,
) -> tuple[Signal, ...]:
    """Return the signals after layers 0 ... N - 1; the last one becomes the image.

    Cutoffs f_c and least acceptable stopbands f_t grow geometrically up to the first critically sampled layer (eq. 35).
    Each sampling rate is the power of two that holds f_t, at most the image's; the transition band takes the rest
    (eq. 36). The number of feature maps is inversely proportional to f_c (appendix F.2, "Generator capacity").
    Critically sampled layers use all frequencies up to half the sampling rate, so that the image can be crisp.

    Args:
        resolution: s_N, a power of two of at least 16.
        num_layers: N.
        num_critical: how many of the last layers are critically sampled.
        first_cutoff: f_c of the input and of layer 0.
        first_stopband: f_t of layer 0.
        last_stopband_ratio: f_t / f_c of the last layer.
        margin: pixels added on each side of all maps but the last layer's.
        channel_base: number of feature maps times twice the cutoff.
        channel_max: largest number of feature maps.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """
    _check_layers(resolution=resolution, num_layers=num_layers, num_critical=num_critical)
    _check_frequencies(first_cutoff, first_stopband, last_stopband_ratio, resolution=resolution)
    _check_maps(margin=margin, channel_base=channel_base, channel_max=channel_max)
    last_cutoff = resolution / 2
    last_stopband = last_cutoff * last_stopband_ratio

    def signal(index: int) -> Signal:
        progress = min(index / (num_layers - num_critical), 1.0)
        cutoff = first_cutoff * (last_cutoff / first_cutoff) ** progress
        stopband = first_stopband * (last_stopband / first_stopband) ** progress
        sampling_rate = 1 << math.ceil(math.log2(min(2 * stopband, resolution)))
        return Signal(
            sampling_rate=sampling_rate,
            cutoff=cutoff,
            half_width=max(stopband, sampling_rate / 2) - cutoff,
            size=resolution if index == num_layers - 1 else sampling_rate + 2 * margin,
            channels=min(round(channel_base / (2 * cutoff)), channel_max),
            critical=index >= num_layers - num_critical,
        )

    return tuple(signal(index) for index in range(num_layers))


def _check_layers(*, resolution: int, num_layers: int, num_critical: int) -> None:
    """Raise a FrameworkError if the resolution or the number of layers is out of range."""
    if resolution < 16 or resolution & (resolution - 1):
        raise FrameworkError(f"resolution={resolution} must be a power of two of at least 16: 16, 32, 64, 128, ...")
    if not 1 <= num_critical < num_layers:
        raise FrameworkError(f"num_critical={num_critical} must be at least 1 and less than num_layers={num_layers}")


def _check_frequencies(
    first_cutoff: float, first_stopband: float, last_stopband_ratio: float, *, resolution: int
) -> None:
    """Raise a FrameworkError if a frequency is out of range."""
    if not 0 < first_cutoff < resolution / 2:
        raise FrameworkError(f"first_cutoff={first_cutoff} must lie between 0 and half the resolution={resolution}")
    if first_stopband <= first_cutoff:
        raise FrameworkError(f"first_stopband={first_stopband} must lie above first_cutoff={first_cutoff}")
    if last_stopband_ratio <= 1:
        raise FrameworkError(f"last_stopband_ratio={last_stopband_ratio} must be greater than 1")


def _check_maps(*, margin: int, channel_base: int, channel_max: int) -> None:
    """Raise a FrameworkError if feature maps would have no valid size."""
    if margin < 0:
        raise FrameworkError(f"margin={margin} must not be negative")
    for name, value in {"channel_base": channel_base, "channel_max": channel_max}.items():
        if value < 1:
            raise FrameworkError(f"{name}={value} must be at least 1")
