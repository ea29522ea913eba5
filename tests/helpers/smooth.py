"""Small players without kinks: spectral norm, conditional batch norm and smooth activations.

Rounding differs between one process and two. In fp32, a ReLU or a max-pool turns that into a jump of the gradient, and
Adam's first steps into a change of sign; smooth players show whether the arithmetic is the same, the real SAGAN shows
it in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.norm import ConditionalBatchNorm2d
from framework.networks.blocks.spectral import spectral_norm


class Generator(nn.Module):
    """(N, z_dim), (N,) -> (N, channels, 8, 8)."""

    def __init__(self, *, resolution: int, channels: int, classes: int, z_dim: int = 8, width: int = 16) -> None:
        super().__init__()
        assert resolution == 8
        self.z_dim, self.width = z_dim, width
        self.linear = spectral_norm(nn.Linear(z_dim, width * 16))
        self.norm1 = ConditionalBatchNorm2d(width, classes, spectral=False)
        self.conv = spectral_norm(nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.norm2 = ConditionalBatchNorm2d(width, classes, spectral=False)
        self.to_image = spectral_norm(nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.linear(z).unflatten(1, (self.width, 4, 4))
        x = functional.interpolate(functional.silu(self.norm1(x, labels)), scale_factor=2.0)
        return torch.tanh(self.to_image(functional.silu(self.norm2(self.conv(x), labels))))


class Discriminator(nn.Module):
    """(N, channels, 8, 8), (N,) -> (N,)."""

    def __init__(self, *, resolution: int, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        assert resolution == 8
        self.conv1 = spectral_norm(nn.Conv2d(channels, width, 3, 2, 1))
        self.conv2 = spectral_norm(nn.Conv2d(width, width, 3, 2, 1))
        self.linear = spectral_norm(nn.Linear(width * 4, 1))
        self.embedding = spectral_norm(nn.Embedding(classes, width * 4))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = functional.silu(self.conv2(functional.silu(self.conv1(images)))).flatten(1)
        return self.linear(x).squeeze(1) + (self.embedding(labels) * x).sum(1)
