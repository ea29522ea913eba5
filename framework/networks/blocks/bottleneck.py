"""BigGAN-deep's residual blocks with bottlenecks (arXiv:1809.11096, appendix B, figure 16).

The 3x3 convolutions work on a quarter of the channels. A shortcut passes channels on unchanged: a generator's drops the
surplus ones, a discriminator's makes the missing ones by a 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.residual import convolution

_REDUCTION = 4
"""Outer channels per channel of the bottleneck."""


class BottleneckGeneratorBlock(nn.Module):
    """The generator's block: norm, ReLU, convolution (1x1, 3x3, 3x3, 1x1) four times, plus C' channels of the input.

    Upsampling happens before the first 3x3 convolution.

    Args:
        in_channels: C, at least 4.
        out_channels: C' <= C.
        norm: makes a normalisation for a number of channels, which is called with (images, condition).
        upsample: double the resolution.
        spectral: spectral norm on the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Callable[[int], nn.Module],
        upsample: bool = False,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        assert out_channels <= in_channels
        hidden = in_channels // _REDUCTION
        self.out_channels = out_channels
        self.upsample = upsample
        self.norm1 = norm(in_channels)
        self.conv1 = convolution(in_channels, hidden, kernel=1, spectral=spectral)
        self.norm2 = norm(hidden)
        self.conv2 = convolution(hidden, hidden, kernel=3, spectral=spectral)
        self.norm3 = norm(hidden)
        self.conv3 = convolution(hidden, hidden, kernel=3, spectral=spectral)
        self.norm4 = norm(hidden)
        self.conv4 = convolution(hidden, out_channels, kernel=1, spectral=spectral)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W), or to (N, C', 2H, 2W) when upsampling.

        Args:
            images: (N, C, H, W).
            condition: what the norm takes: (N,) or (N, length), or None if it is not conditional.
        """
        x = self.conv1(functional.relu(self.norm1(images, condition)))
        x = self.conv2(self._upsample(functional.relu(self.norm2(x, condition))))
        x = self.conv3(functional.relu(self.norm3(x, condition)))
        x = self.conv4(functional.relu(self.norm4(x, condition)))
        return x + self._upsample(images[:, : self.out_channels])

    def _upsample(self, images: Tensor) -> Tensor:
        return functional.interpolate(images, scale_factor=2) if self.upsample else images


class BottleneckDiscriminatorBlock(nn.Module):
    """The discriminator's block: ReLU, convolution (1x1, 3x3, 3x3, 1x1) four times, plus the input with more channels.

    Average pooling, if any, happens before the last convolution. The shortcut appends C' - C channels to the input.

    Args:
        in_channels: C.
        out_channels: C' >= C, at least 4.
        downsample: halve the resolution.
        spectral: spectral norm on the convolutions.
        rectified_shortcut: as for `residual.DiscriminatorBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        downsample: bool = False,
        spectral: bool = True,
        rectified_shortcut: bool = False,
    ) -> None:
        super().__init__()
        assert out_channels >= in_channels
        hidden = out_channels // _REDUCTION
        self.downsample = downsample
        self.rectified_shortcut = rectified_shortcut
        self.conv1 = convolution(in_channels, hidden, kernel=1, spectral=spectral)
        self.conv2 = convolution(hidden, hidden, kernel=3, spectral=spectral)
        self.conv3 = convolution(hidden, hidden, kernel=3, spectral=spectral)
        self.conv4 = convolution(hidden, out_channels, kernel=1, spectral=spectral)
        self.shortcut: nn.Module | None = None
        if out_channels > in_channels:
            self.shortcut = convolution(in_channels, out_channels - in_channels, kernel=1, spectral=spectral)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W), or to (N, C', H/2, W/2) when downsampling."""
        rectified = functional.relu(images)
        x = functional.relu(self.conv2(functional.relu(self.conv1(rectified))))
        x = self.conv4(self._pool(functional.relu(self.conv3(x))))
        kept = self._pool(rectified if self.rectified_shortcut else images)
        return x + (kept if self.shortcut is None else torch.cat([kept, self.shortcut(kept)], 1))

    def _pool(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 2) if self.downsample else images
