"""SAGAN: residual networks with spectral norm, self-attention and class conditioning (arXiv:1805.08318).

The generator conditions by batch norm (arXiv:1610.07629), the discriminator by projection (arXiv:1802.05637). Without
attention and spectral norm in the generator this is SNGAN (arXiv:1802.05957). The channel tables follow the public
reproductions: multiples of `width`; 32 px has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import FrameworkError
from framework.networks.blocks.attention import SelfAttention2d
from framework.networks.blocks.init import Init, initialize
from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d, Statistics
from framework.networks.blocks.residual import DiscriminatorBlock, GeneratorBlock, Upsampling, convolution
from framework.networks.blocks.spectral import spectral_norm

_START = 4
"""Side of the generator's first feature map."""

_GENERATOR_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
}
"""Channels at 4, 8, ..., resolution px in multiples of `width`; above 256 px every further feature map has 1."""

_DISCRIMINATOR_WIDTHS = {
    32: (2, 2, 2, 2),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
}
"""Channels after each block from the image down; above 256 px every further block before these has 1."""


class Generator(nn.Module):
    """Latents (N, z_dim) and labels (N,) to images (N, channels, resolution, resolution) in [-1, 1].

    Args:
        resolution: side of the square image, a power of two from 32.
        channels: of the image: 3 colour, 1 grey.
        classes: number of classes; 0 = unconditional (plain batch norm, labels ignored).
        z_dim: length of the latent.
        width: channel multiplier (64 in the paper's 128 px networks).
        attention_at: side of the feature map that attends to itself, 8 to `resolution`; None = no attention.
        spectral: spectral norm on every linear and convolution.
        conditional_spectral: if also `spectral`, on the class-to-gain and class-to-bias maps too.
        statistics: of batch norm: `global` (all processes) or `local` (each its own).
        batch_norm_eps: added to variances (StudioGAN uses 1e-4).
        batch_norm_momentum: weight of the new batch in running statistics.
        upsampling: `nearest`, or `bilinear` (mimicry's variant).
        init: see `blocks.init.initialize`.

    Raises:
        FrameworkError: an argument that cannot work; names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        z_dim: int = 128,
        width: int = 64,
        attention_at: int | None = None,
        spectral: bool = True,
        conditional_spectral: bool = True,
        statistics: Statistics = "global",
        batch_norm_eps: float = 1e-5,
        batch_norm_momentum: float = 0.1,
        upsampling: Upsampling = "nearest",
        init: Init = "orthogonal",
    ) -> None:
        super().__init__()
        _check_sizes(resolution=resolution, channels=channels, classes=classes, width=width, z_dim=z_dim)
        sides = _powers_of_two(2 * _START, resolution)
        _check_attention(attention_at, sides=sides)
        if upsampling not in get_args(Upsampling):
            raise FrameworkError(f"upsampling={upsampling!r} must be one of: {', '.join(get_args(Upsampling))}")
        self.z_dim = z_dim
        self.classes = classes
        options: dict[str, Any] = {"eps": batch_norm_eps, "momentum": batch_norm_momentum, "statistics": statistics}
        plain_norm: Callable[[int], nn.Module] = partial(BatchNorm2d, **options)
        label_norm: Callable[[int], nn.Module] = partial(
            ConditionalBatchNorm2d, num_classes=classes, spectral=spectral and conditional_spectral, **options
        )
        norm = label_norm if classes else plain_norm
        finest = [1] * len(_powers_of_two(512, resolution))
        widths = [width * multiple for multiple in (*_GENERATOR_WIDTHS[min(resolution, 256)], *finest)]
        self.linear = nn.Linear(z_dim, widths[0] * _START**2)
        if spectral:
            spectral_norm(self.linear)
        self.blocks = nn.ModuleList(
            GeneratorBlock(before, after, norm=norm, spectral=spectral, upsampling=upsampling)
            for before, after in pairwise(widths)
        )
        self.attention_after = None if attention_at is None else sides.index(attention_at)
        self.attention = None
        if self.attention_after is not None:
            self.attention = SelfAttention2d(widths[self.attention_after + 1], spectral=spectral)
        self.norm = plain_norm(widths[-1])
        self.to_image = convolution(widths[-1], channels, kernel=3, spectral=spectral)
        initialize(self, init=init)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images in [-1, 1] for latents (N, z_dim) and labels (N,) int64 or (N, classes) weights over classes."""
        _check_labels(labels, classes=self.classes)
        x = self.linear(z).unflatten(1, (-1, _START, _START))
        for index, block in enumerate(self.blocks):
            x = block(x, labels)
            if self.attention is not None and index == self.attention_after:
                x = self.attention(x)
        return torch.tanh(self.to_image(functional.relu(self.norm(x))))


class Discriminator(nn.Module):
    """Images (N, channels, resolution, resolution) and labels (N,) to logits (N,): positive = real.

    Features are summed over pixels; with classes, the logit gains the inner product of the features and the label's
    embedding (projection).

    Args:
        resolution: side of the square image, a power of two from 32.
        channels: of the image: 3 colour, 1 grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        width: channel multiplier.
        attention_at: side of the feature map that attends to itself, below `resolution`; None = no attention.
        spectral: spectral norm on every linear, convolution and embedding.
        rectified_shortcut: see `blocks.residual.DiscriminatorBlock`.
        init: see `blocks.init.initialize`.

    Raises:
        FrameworkError: an argument that cannot work; names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        width: int = 64,
        attention_at: int | None = None,
        spectral: bool = True,
        rectified_shortcut: bool = False,
        init: Init = "orthogonal",
    ) -> None:
        super().__init__()
        _check_sizes(resolution=resolution, channels=channels, classes=classes, width=width)
        coarsest = 8 if resolution == 32 else 4
        sides = _powers_of_two(coarsest, resolution // 2)[::-1]
        _check_attention(attention_at, sides=sides)
        self.classes = classes
        finest = [1] * len(_powers_of_two(512, resolution))
        widths = [width * multiple for multiple in (*finest, *_DISCRIMINATOR_WIDTHS[min(resolution, 256)])]
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(
                before,
                after,
                downsample=index < len(sides),
                first=index == 0,
                spectral=spectral,
                rectified_shortcut=rectified_shortcut,
            )
            for index, (before, after) in enumerate(pairwise([channels, *widths]))
        )
        self.attention_after = None if attention_at is None else sides.index(attention_at)
        self.attention = None
        if self.attention_after is not None:
            self.attention = SelfAttention2d(widths[self.attention_after], spectral=spectral)
        self.linear = nn.Linear(widths[-1], 1)
        self.embedding = nn.Embedding(classes, widths[-1]) if classes else None
        if spectral:
            spectral_norm(self.linear)
            if self.embedding is not None:
                spectral_norm(self.embedding)
        initialize(self, init=init)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) for images in [-1, 1] and labels (N,) int64."""
        _check_labels(labels, classes=self.classes)
        x = images
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attention is not None and index == self.attention_after:
                x = self.attention(x)
        features = functional.relu(x).sum((2, 3))
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (self.embedding(labels) * features).sum(1)


def _check_labels(labels: Tensor | None, *, classes: int) -> None:
    if classes and labels is None:
        raise FrameworkError(f"this network was built with classes={classes}: pass labels, shape (N,)")


def _powers_of_two(first: int, last: int) -> list[int]:
    return [1 << exponent for exponent in range(first.bit_length() - 1, last.bit_length())]


def _check_sizes(*, resolution: int, channels: int, classes: int, width: int, z_dim: int = 1) -> None:
    if resolution < 32 or resolution & (resolution - 1):
        raise FrameworkError(f"resolution={resolution} must be a power of two from 32: 32, 64, 128, 256, ...")
    if classes < 0:
        raise FrameworkError(f"classes={classes} must be 0 (unconditional) or the number of classes")
    for name, value in {"channels": channels, "width": width, "z_dim": z_dim}.items():
        if value < 1:
            raise FrameworkError(f"{name}={value} must be at least 1")


def _check_attention(attention_at: int | None, *, sides: list[int]) -> None:
    if attention_at is not None and attention_at not in sides:
        valid = ", ".join(map(str, sides))
        raise FrameworkError(f"attention_at={attention_at} must be None or the side of a feature map: {valid}")
