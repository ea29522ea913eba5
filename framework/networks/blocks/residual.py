"""Residual blocks of SNGAN, SAGAN and BigGAN (arXiv:1802.05957 appendix B, 1805.08318, 1809.11096 appendix B).

Shortcut convolutions are 1x1 and so commute with resampling; they run at the lower of the two resolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.spectral import spectral_norm

Upsampling = Literal["nearest", "bilinear"]
"""Interpolation by which a generator's block doubles the resolution."""


def convolution(in_channels: int, out_channels: int, *, kernel: int, spectral: bool) -> nn.Conv2d:
    """Return a convolution with bias that keeps the size, with spectral norm if `spectral`; `kernel` is odd."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    return spectral_norm(layer) if spectral else layer


class GeneratorBlock(nn.Module):
    """The generator's block: norm, ReLU, upsampling by 2, 3x3, norm, ReLU, 3x3, plus a 1x1 shortcut.

    Args:
        in_channels: C.
        out_channels: C'.
        norm: makes a normalisation for a number of channels, which is called with (images, labels).
        spectral: spectral norm on the convolutions.
        upsampling: `nearest`, or `bilinear` (corners not aligned).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Callable[[int], nn.Module],
        spectral: bool = True,
        upsampling: Upsampling = "nearest",
    ) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.norm1 = norm(in_channels)
        self.conv1 = convolution(in_channels, out_channels, kernel=3, spectral=spectral)
        self.norm2 = norm(out_channels)
        self.conv2 = convolution(out_channels, out_channels, kernel=3, spectral=spectral)
        self.shortcut = convolution(in_channels, out_channels, kernel=1, spectral=spectral)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) to (N, C', 2H, 2W).

        Args:
            images: (N, C, H, W).
            labels: what the norm takes: (N,) or (N, length), or None if it is not conditional.
        """
        x = self.conv1(self._upsample(functional.relu(self.norm1(images, labels))))
        x = self.conv2(functional.relu(self.norm2(x, labels)))
        return x + self._upsample(self.shortcut(images))

    def _upsample(self, images: Tensor) -> Tensor:
        return functional.interpolate(images, scale_factor=2, mode=self.upsampling)


class DiscriminatorBlock(nn.Module):
    """The discriminator's block: ReLU, 3x3, ReLU, 3x3, average pooling by 2, plus a 1x1 shortcut.

    Args:
        in_channels: C.
        out_channels: C'.
        hidden_channels: channels between the convolutions; None = `out_channels` ("wide").
        downsample: halve the resolution; without it and with C = C' the shortcut is the identity.
        first: the block that sees the image: no ReLU before its first convolution.
        spectral: spectral norm on the convolutions.
        rectified_shortcut: the shortcut receives relu(x) instead of x. Not in any paper: StudioGAN's and mimicry's
            in-place ReLU has this effect, and their published weights need it. No effect on the first block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int | None = None,
        downsample: bool = True,
        first: bool = False,
        spectral: bool = True,
        rectified_shortcut: bool = False,
    ) -> None:
        super().__init__()
        hidden_channels = out_channels if hidden_channels is None else hidden_channels
        self.downsample = downsample
        self.first = first
        self.rectified_shortcut = rectified_shortcut
        self.conv1 = convolution(in_channels, hidden_channels, kernel=3, spectral=spectral)
        self.conv2 = convolution(hidden_channels, out_channels, kernel=3, spectral=spectral)
        self.shortcut: nn.Module = nn.Identity()
        if downsample or in_channels != out_channels:
            self.shortcut = convolution(in_channels, out_channels, kernel=1, spectral=spectral)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/2, W/2), or to (N, C', H, W) without downsampling."""
        rectified = images if self.first else functional.relu(images)
        x = self._pool(self.conv2(functional.relu(self.conv1(rectified))))
        return x + self.shortcut(self._pool(rectified if self.rectified_shortcut else images))

    def _pool(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 2) if self.downsample else images
