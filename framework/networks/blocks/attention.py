"""Self-attention over pixels (Zhang et al., SAGAN, arXiv:1805.08318, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.spectral import spectral_norm
from framework.utils.errors import FrameworkError


class SelfAttention2d(nn.Module):
    """Self-attention `y = x + gamma * o(softmax(theta(x)^T phi(x)) g(x))` for (N, C, H, W) with even H and W.

    Queries and keys have C // 8 channels, values C // 2; keys and values are max-pooled to a quarter of the pixels, as
    in the authors' program (the text does not say so). `gamma` starts at zero, so the block starts as the identity.
    The matrix products are written out: the fused attention kernels have no second derivative, which R1 needs.

    Args:
        channels: C, at least 8.
        spectral: spectral norm on the four 1x1 convolutions.

    Raises:
        FrameworkError: fewer than 8 channels.
    """

    def __init__(self, channels: int, *, spectral: bool = True) -> None:
        super().__init__()
        if channels < 8:
            raise FrameworkError(f"attention over channels={channels} needs at least 8: queries have channels // 8")
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))  # one element, not a scalar: FSDP2 cannot shard 0-dimensional ones
        if spectral:
            for layer in (self.theta, self.phi, self.g, self.o):
                spectral_norm(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Attend within each image of (N, C, H, W); same shape."""
        queries = self.theta(images).flatten(2)
        keys = functional.max_pool2d(self.phi(images), 2).flatten(2)
        values = functional.max_pool2d(self.g(images), 2).flatten(2)
        attention = torch.softmax(queries.mT @ keys, dim=-1)  # (N, H W, H W / 4)
        attended = (values @ attention.mT).unflatten(2, images.shape[2:])
        return images + self.gamma * self.o(attended)
