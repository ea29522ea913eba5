"""BigGAN-deep: bottleneck blocks, two per resolution, all conditioned on the class and the whole latent.

Brock et al., arXiv:1809.11096, appendix B (figure 16, tables 7 to 9). Class embedding and latent are concatenated once,
and this vector makes the first feature map and conditions every batch norm.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.attention import SelfAttention2d
from framework.networks.blocks.bottleneck import BottleneckDiscriminatorBlock, BottleneckGeneratorBlock
from framework.networks.blocks.embedding import ClassEmbedding, projection
from framework.networks.blocks.init import Init, initialize
from framework.networks.blocks.norm import BatchNorm2d, Statistics, batch_norms
from framework.networks.blocks.residual import convolution
from framework.networks.blocks.spectral import spectral_norm
from framework.networks.labels import check_labels
from framework.networks.sizes import (
    check_attention,
    check_resolution,
    check_sizes,
    discriminator_sides,
    discriminator_widths,
    first_side,
    generator_sides,
    generator_widths,
)
from framework.utils.errors import FrameworkError


class Generator(nn.Module):
    """BigGAN-deep's generator: images (N, channels, resolution, resolution) in [-1, 1] from latents and labels.

    Args:
        resolution: side of the square image, 48 or a power of two of at least 32.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        z_dim: length of the latent.
        shared_dim: length of the class embedding.
        width: channel multiplier (128 in the paper), at least 4.
        depth: blocks per resolution; the last one doubles it.
        attention_at: side of the feature map that attends to itself (64 in the paper), 8 to `resolution`; None = none.
        spectral: spectral norm on every linear and convolution; the class embedding has none.
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).
        batch_norm_eps: added to batch norm's variances (StudioGAN uses 1e-4).
        batch_norm_momentum: weight of the new batch in running statistics.
        init: see `blocks.init.initialize`.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        z_dim: int = 128,
        shared_dim: int = 128,
        width: int = 128,
        depth: int = 2,
        attention_at: int | None = None,
        spectral: bool = True,
        statistics: Statistics = "global",
        batch_norm_eps: float = 1e-5,
        batch_norm_momentum: float = 0.1,
        init: Init = "orthogonal",
    ) -> None:
        super().__init__()
        check_resolution(resolution)
        check_sizes(classes=classes, channels=channels, z_dim=z_dim, shared_dim=shared_dim, depth=depth)
        _check_width(width)
        sides = generator_sides(resolution)
        check_attention(attention_at, sides=sides)
        self.z_dim = z_dim
        self.classes = classes
        condition = z_dim + (shared_dim if classes else 0)
        options: dict[str, Any] = {"eps": batch_norm_eps, "momentum": batch_norm_momentum, "statistics": statistics}
        norm = batch_norms(condition, spectral=spectral, **options)
        # The first feature map.
        widths = generator_widths(resolution, width=width)
        self.start = first_side(resolution)
        self.embedding = ClassEmbedding(classes, shared_dim) if classes else None
        self.linear = nn.Linear(condition, widths[0] * self.start**2)
        if spectral:
            spectral_norm(self.linear)
        # At each resolution `depth` blocks, the last of which doubles it; attention where its side is reached.
        self.blocks = nn.ModuleList()
        for before, after in pairwise(widths):
            for _ in range(depth - 1):
                self.blocks.append(BottleneckGeneratorBlock(before, before, norm=norm, spectral=spectral))
            self.blocks.append(BottleneckGeneratorBlock(before, after, norm=norm, upsample=True, spectral=spectral))
        self.attention_after = self.attention = None
        if attention_at is not None:
            stage = sides.index(attention_at)
            self.attention_after = (stage + 1) * depth - 1
            self.attention = SelfAttention2d(widths[stage + 1], spectral=spectral)
        # The last feature map to pixels.
        self.norm = BatchNorm2d(widths[-1], **options)
        self.to_image = convolution(widths[-1], channels, kernel=3, spectral=spectral)
        initialize(self, init=init)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, channels, resolution, resolution) in [-1, 1].

        Args:
            z: latents (N, z_dim), standard normal.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        check_labels(labels, classes=self.classes)
        condition = z if self.embedding is None else torch.cat([self.embedding(labels), z], 1)
        x = self.linear(condition).unflatten(1, (-1, self.start, self.start))
        for index, block in enumerate(self.blocks):
            x = block(x, condition)
            if self.attention is not None and index == self.attention_after:
                x = self.attention(x)
        return torch.tanh(self.to_image(functional.relu(self.norm(x))))


class Discriminator(nn.Module):
    """BigGAN-deep's discriminator: logits (N,) from images (N, channels, resolution, resolution) and labels.

    Args:
        resolution: side of the square image, 48 or a power of two of at least 32.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        width: channel multiplier (128 in the paper), at least 4.
        depth: blocks per resolution; the first one halves it.
        attention_at: side of the feature map that attends to itself, below `resolution`; None = no attention.
        spectral: spectral norm on every linear, convolution and embedding.
        rectified_shortcut: see `blocks.residual.DiscriminatorBlock`.
        init: see `blocks.init.initialize`.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        width: int = 128,
        depth: int = 2,
        attention_at: int | None = None,
        spectral: bool = True,
        rectified_shortcut: bool = False,
        init: Init = "orthogonal",
    ) -> None:
        super().__init__()
        check_resolution(resolution)
        check_sizes(classes=classes, channels=channels, depth=depth)
        _check_width(width)
        coarsest = {32: 8, 48: 3}.get(resolution, 4)
        sides = discriminator_sides(resolution, coarsest=coarsest)
        check_attention(attention_at, sides=sides)
        self.classes = classes
        widths = discriminator_widths(resolution, width=width, coarsest=coarsest)
        # At each resolution `depth` blocks, the first of which halves it; attention after the last one at its side.
        self.from_image = convolution(channels, widths[0], kernel=3, spectral=spectral)
        self.blocks = nn.ModuleList()
        for stage, (before, after) in enumerate(pairwise(widths)):
            for index in range(depth):
                self.blocks.append(
                    BottleneckDiscriminatorBlock(
                        before if index == 0 else after,
                        after,
                        downsample=index == 0 and stage < len(sides),
                        spectral=spectral,
                        rectified_shortcut=rectified_shortcut,
                    )
                )
        self.attention_after = self.attention = None
        if attention_at is not None:
            stage = sides.index(attention_at)
            self.attention_after = (stage + 1) * depth - 1
            self.attention = SelfAttention2d(widths[stage + 1], spectral=spectral)
        # Pooled features to logits.
        self.linear = nn.Linear(widths[-1], 1)
        self.embedding = ClassEmbedding(classes, widths[-1]) if classes else None
        if spectral:
            spectral_norm(self.linear)
            if self.embedding is not None:
                spectral_norm(self.embedding)
        initialize(self, init=init)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N,), larger for real images.

        Args:
            images: (N, channels, resolution, resolution) in [-1, 1].
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        check_labels(labels, classes=self.classes)
        x = self.from_image(images)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attention is not None and index == self.attention_after:
                x = self.attention(x)
        features = functional.relu(x).sum((2, 3))
        return projection(features, labels, linear=self.linear, embedding=self.embedding)


def _check_width(width: int) -> None:
    """Raise a FrameworkError if bottlenecks would be left without channels."""
    if width < 4:
        raise FrameworkError(f"width={width} must be at least 4: bottlenecks have a quarter of the channels")
