"""Equalised convolution with resampling, bias and activation: the plain layer of StyleGAN2 (arXiv:1912.04958)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from framework.networks.blocks.activation import Activation, bias_act
from framework.networks.blocks.modulated import conv2d_resample


class ResampledConv2d(nn.Module):
    """An equalised convolution with optional up- or downsampling, bias and activation.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: side of the square kernel.
        bias: learn a bias.
        activation: see `bias_act`.
        up: factor of upsampling before the convolution.
        down: factor of downsampling after the convolution.
        filter: the resampling filter, from `setup_filter`; None if there is no resampling.
        conv_clamp: bound on the output's absolute value, for half precision; None = no bound.
    """

    filter: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        bias: bool = True,
        activation: Activation = "linear",
        up: int = 1,
        down: int = 1,
        filter: Tensor | None = None,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.up, self.down, self.conv_clamp = activation, up, down, conv_clamp
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = 1.0 / math.sqrt(in_channels * kernel**2)
        self.register_buffer("filter", filter, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H up / down, W up / down)."""
        x = conv2d_resample(
            x,
            self.weight * self.scale,
            filter=self.filter,
            up=self.up,
            down=self.down,
            padding=self.weight.shape[2] // 2,
            # Upsampling uses a transposed convolution, for which published weights are stored.
            mirrored=self.up > 1,
        )
        return bias_act(x, self.bias, activation=self.activation, clamp=self.conv_clamp)
