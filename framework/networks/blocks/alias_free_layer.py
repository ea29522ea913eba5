"""The layers of StyleGAN3's synthesis network (arXiv:2106.12423, figure 4b)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from framework.networks.blocks.activation import bias_act
from framework.networks.blocks.alias_free import centred_padding, filtered_leaky_relu, lowpass_filter
from framework.networks.blocks.equalized import EqualizedLinear
from framework.networks.blocks.flexible_layers import Signal
from framework.networks.blocks.modulated import modulated_conv2d
from framework.networks.blocks.moving import MovingMean


class ModulatedConvolution(nn.Module):
    """The base of both kinds of layers: a modulated convolution of inputs normalised to unit magnitude.

    Without skip connections magnitudes would drift; a moving mean of x^2 over all pixels and feature maps normalises
    the input (section 3.1, "baseline simplifications"). `blocks.moving.advance` moves it.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: side of the square kernel.
        demodulate: bring the output back to unit variance.
        w_dim: length of a style vector.
        conv_clamp: bound on the output's absolute value; None = no bound.
        magnitude_keep: share of the old input magnitude kept per turn.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        demodulate: bool,
        w_dim: int,
        conv_clamp: float | None,
        magnitude_keep: float,
    ) -> None:
        super().__init__()
        self.demodulate, self.conv_clamp = demodulate, conv_clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.magnitude = MovingMean((), keep=magnitude_keep, init=1.0)

    def convolve(self, x: Tensor, w: Tensor) -> Tensor:
        """Normalise and convolve feature maps (N, C, H, W), modulated by styles (N, w_dim).

        Returns:
            (N, C', H + kernel - 1, W + kernel - 1): every position at which the kernel touches the input.
        """
        if self.training:
            with torch.no_grad():
                wide = x.to(torch.promote_types(x.dtype, torch.float32))
                self.magnitude.note(wide.square().mean((1, 2, 3)))
        x = x * self.magnitude.value.rsqrt().to(x.dtype)
        styles = self.affine(w)
        if not self.demodulate:
            styles = styles / math.sqrt(self.weight[0].numel())
        return modulated_conv2d(x, self.weight, styles, padding=self.weight.shape[-1] - 1, demodulate=self.demodulate)


class Layer(ModulatedConvolution):
    """A modulated convolution and a filtered leaky ReLU, from one signal to the next (figure 4b).

    Args:
        before: the input's signal.
        after: the output's signal.
        kernel: side of the convolution's kernel.
        filter_size: see `Generator`.
        oversampling: see `Generator`.
        radial: see `Generator`.
        common: see `ModulatedConvolution`.
    """

    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(
        self,
        before: Signal,
        after: Signal,
        *,
        kernel: int,
        filter_size: int,
        oversampling: int,
        radial: bool,
        **common: Any,
    ) -> None:
        super().__init__(before.channels, after.channels, kernel=kernel, demodulate=True, **common)
        # Filters around the nonlinearity, which works at a multiple of the higher of both sampling rates.
        rate = oversampling * max(before.sampling_rate, after.sampling_rate)
        self.up, self.down = rate // before.sampling_rate, rate // after.sampling_rate
        up_taps = filter_size * self.up if self.up > 1 else 1
        down_taps = filter_size * self.down if self.down > 1 else 1
        up_filter = lowpass_filter(up_taps, cutoff=before.cutoff, half_width=before.half_width, sampling_rate=rate)
        down_filter = lowpass_filter(
            down_taps,
            cutoff=after.cutoff,
            half_width=after.half_width,
            sampling_rate=rate,
            # The image's own spectrum need not be radial, so critically sampled layers keep a square band.
            radial=radial and not after.critical,
        )
        self.register_buffer("up_filter", up_filter if up_taps > 1 else None)
        self.register_buffer("down_filter", down_filter if down_taps > 1 else None)
        # The convolution enlarges the map by kernel - 1; the filters' padding crops it to the next size.
        self.padding = centred_padding(
            size_in=before.size + kernel - 1,
            size_out=after.size,
            up=self.up,
            down=self.down,
            up_taps=up_taps,
            down_taps=down_taps,
        )

    def extra_repr(self) -> str:
        """Return the options for `print`."""
        return f"{tuple(self.weight.shape)}, up={self.up}, down={self.down}, padding={self.padding}"

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map feature maps (N, C, H, W) and styles (N, w_dim) to (N, C', H', W'), H' = W' = `after.size`."""
        return filtered_leaky_relu(
            self.convolve(x, w),
            self.bias,
            up_filter=self.up_filter,
            down_filter=self.down_filter,
            up=self.up,
            down=self.down,
            padding=(*self.padding, *self.padding),
            clamp=self.conv_clamp,
        )


class ToImage(ModulatedConvolution):
    """The last layer, from feature maps to colours: pointwise and linear, without demodulation.

    Args:
        in_channels: C.
        channels: number of image channels.
        common: see `ModulatedConvolution`.
    """

    def __init__(self, in_channels: int, channels: int, **common: Any) -> None:
        super().__init__(in_channels, channels, kernel=1, demodulate=False, **common)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map feature maps (N, C, H, W) and styles (N, w_dim) to colours (N, channels, H, W)."""
        return bias_act(self.convolve(x, w), self.bias, clamp=self.conv_clamp)
