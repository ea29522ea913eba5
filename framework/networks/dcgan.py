"""DCGAN: strided convolutions with batch norm and nothing else (Radford et al., arXiv:1511.06434).

Figure 1 and the guidelines of section 3: no pooling, no hidden dense layers, ReLU in the generator, leaky ReLU in the
discriminator, batch norm everywhere but at the generator's output and the discriminator's input, weights from
N(0, 0.02^2). The paper draws latents from a uniform distribution; this framework's are normal.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.init import initialize_normal
from framework.networks.blocks.norm import BatchNorm2d, Statistics
from framework.networks.sizes import check_sizes
from framework.utils.errors import FrameworkError


class Generator(nn.Module):
    """DCGAN's generator: images (N, channels, resolution, resolution) in [-1, 1] from latents; labels are ignored.

    Args:
        resolution: side of the image, a power of two of at least 8; the paper's is 64.
        channels: channels of the image, 3 for colour, 1 for grey.
        z_dim: length of the latent.
        width: channels of the finest feature map; each coarser one has twice as many (paper: 128, so 1024 at 4 px).
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int = 64,
        channels: int = 3,
        z_dim: int = 100,
        width: int = 128,
        statistics: Statistics = "global",
    ) -> None:
        super().__init__()
        widths = _widths(resolution=resolution, channels=channels, width=width, z_dim=z_dim)[::-1]
        self.z_dim = z_dim
        # The paper projects the latent to 4x4 feature maps, which is a transposed convolution of one pixel.
        first = nn.ConvTranspose2d(z_dim, widths[0], 4, bias=False)
        self.layers = nn.ModuleList([first, *(_doubling(*pair) for pair in pairwise(widths))])
        self.norms = nn.ModuleList(BatchNorm2d(width, statistics=statistics) for width in widths)
        self.to_image = _doubling(widths[-1], channels)
        initialize_normal(self)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, channels, resolution, resolution) in [-1, 1] for latents z (N, z_dim)."""
        x = z[:, :, None, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.relu(norm(layer(x)))
        return torch.tanh(self.to_image(x))


class Discriminator(nn.Module):
    """DCGAN's discriminator: logits (N,) from images (N, channels, resolution, resolution); labels are ignored.

    Args:
        resolution: side of the image, a power of two of at least 8; the paper's is 64.
        channels: channels of the image, 3 for colour, 1 for grey.
        width: channels of the finest feature map; each coarser one has twice as many.
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self, *, resolution: int = 64, channels: int = 3, width: int = 128, statistics: Statistics = "global"
    ) -> None:
        super().__init__()
        widths = _widths(resolution=resolution, channels=channels, width=width)
        self.from_image = _halving(channels, widths[0])
        self.layers = nn.ModuleList(_halving(*pair) for pair in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm2d(width, statistics=statistics) for width in widths[1:])
        self.output = nn.Conv2d(widths[-1], 1, 4, bias=False)
        initialize_normal(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N,), larger for real images, for images (N, channels, resolution, resolution) in [-1, 1]."""
        x = functional.leaky_relu(self.from_image(images), 0.2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.leaky_relu(norm(layer(x)), 0.2)
        return self.output(x).flatten()


def _doubling(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution (N, C, H, W) -> (N, C', 2H, 2W)."""
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)


def _halving(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a strided convolution (N, C, H, W) -> (N, C', H/2, W/2)."""
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)


def _widths(*, resolution: int, channels: int, width: int, z_dim: int = 1) -> list[int]:
    """Return the channels of the feature maps from half the resolution down to 4 px."""
    if resolution < 8 or resolution & (resolution - 1):
        raise FrameworkError(f"resolution={resolution} must be a power of two of at least 8: 8, 16, 32, 64, ...")
    check_sizes(classes=0, channels=channels, width=width, z_dim=z_dim)
    return [width << exponent for exponent in range(resolution.bit_length() - 3)]
