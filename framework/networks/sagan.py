"""SAGAN: residual networks with spectral norm, self-attention and class conditioning (arXiv:1805.08318).

Batch norm conditions the generator (arXiv:1610.07629), projection the discriminator (arXiv:1802.05637). Without
attention, and without spectral norm in the generator, these networks are SNGAN's (arXiv:1802.05957), see `sngan.py`;
BigGAN's discriminator is this one (`biggan.py`). Channels are multiples of `width`, see `sizes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.attention import SelfAttention2d
from framework.networks.blocks.embedding import ClassEmbedding, projection
from framework.networks.blocks.heads import DiscriminatorOutput, Heads, check_heads
from framework.networks.blocks.init import Init, initialize
from framework.networks.blocks.norm import BatchNorm2d, Statistics, batch_norms
from framework.networks.blocks.residual import DiscriminatorBlock, GeneratorBlock, Upsampling, convolution
from framework.networks.blocks.spectral import spectral_norm
from framework.networks.labels import check_labels
from framework.networks.sizes import (
    check_attention,
    check_choice,
    check_resolution,
    check_sizes,
    discriminator_sides,
    discriminator_widths,
    first_side,
    generator_sides,
    generator_widths,
)
from framework.recipe.checks import ADDED_LATER

Hidden = Literal["output", "input", "input_throughout"]
"""Channels between the two convolutions of a discriminator's block; see `Discriminator`."""

Pooling = Literal["sum", "mean"]
"""Reduction of the discriminator's features over pixels."""


class Generator(nn.Module):
    """SAGAN's generator: images (N, channels, resolution, resolution) in [-1, 1] from latents and labels.

    Args:
        resolution: side of the square image, 48 or a power of two of at least 32.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (plain batch norm, labels ignored).
        z_dim: length of the latent.
        width: channel multiplier (64 in the paper's 128 px networks).
        multiples: channels of each feature map in multiples of `width`, coarsest first; None = `sizes.py`'s table.
        attention_at: side of the feature map that attends to itself, 8 to `resolution`; None = no attention.
        spectral: spectral norm on every linear and convolution.
        conditional_spectral: spectral norm on the class-to-gain and class-to-bias maps too, if `spectral`.
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).
        batch_norm_eps: added to batch norm's variances (StudioGAN uses 1e-4).
        batch_norm_momentum: weight of the new batch in running statistics.
        upsampling: `nearest`, or `bilinear` (mimicry's variant).
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
        width: int = 64,
        multiples: Sequence[int] | None = None,
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
        check_resolution(resolution)
        check_sizes(classes=classes, channels=channels, width=width, z_dim=z_dim)
        check_choice("upsampling", upsampling, Upsampling)
        sides = generator_sides(resolution)
        check_attention(attention_at, sides=sides)
        self.z_dim = z_dim
        self.classes = classes
        options: dict[str, Any] = {"eps": batch_norm_eps, "momentum": batch_norm_momentum, "statistics": statistics}
        norm = batch_norms(classes, spectral=spectral and conditional_spectral, **options)
        # The first feature map.
        widths = generator_widths(resolution, width=width, multiples=multiples)
        self.start = first_side(resolution)
        self.linear = nn.Linear(z_dim, widths[0] * self.start**2)
        if spectral:
            spectral_norm(self.linear)
        # Blocks that double the side, and attention after one of them.
        self.blocks = nn.ModuleList(
            GeneratorBlock(before, after, norm=norm, spectral=spectral, upsampling=upsampling)
            for before, after in pairwise(widths)
        )
        self.attention_after = None if attention_at is None else sides.index(attention_at)
        self.attention = None
        if self.attention_after is not None:
            self.attention = SelfAttention2d(widths[self.attention_after + 1], spectral=spectral)
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
        x = self.linear(z).unflatten(1, (-1, self.start, self.start))
        for index, block in enumerate(self.blocks):
            x = block(x, labels)
            if self.attention is not None and index == self.attention_after:
                x = self.attention(x)
        return torch.tanh(self.to_image(functional.relu(self.norm(x))))


class Discriminator(nn.Module):
    """SAGAN's discriminator: logits (N,) from images (N, channels, resolution, resolution) and labels.

    Features are pooled over pixels; with classes, the inner product of the features and the label's embedding is added
    to the logit (projection), or a class head tells the classes apart, and a `DiscriminatorOutput` is returned.

    Args:
        resolution: side of the square image, 48 or a power of two of at least 32.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        width: channel multiplier.
        multiples: channels after each block in multiples of `width`, finest first; None = `sizes.py`'s table.
        coarsest: side of the last feature map, where blocks stop halving; None = 8 at 32 px, 3 at 48 px, else 4.
        hidden: channels between a block's two convolutions: as many as at its `output`, as here and in BigGAN; as at
            its `input`, except in the first block, as in SNGAN; or as at its input in every block,
            `input_throughout` (BigGAN-PyTorch's thin variant).
        attention_at: side of the feature map that attends to itself, below `resolution`; None = no attention.
        attention_repeats: attend again after every later block (BigGAN-PyTorch at 32 px with attention at 16).
        pooling: `sum` over pixels, or `mean` (WGAN-GP, arXiv:1704.00028).
        spectral: spectral norm on every linear, convolution and embedding.
        head_spectral: spectral norm on the last linear and on the labels' embedding too, if `spectral` (mimicry's
            projection discriminator has none there).
        rectified_shortcut: see `blocks.residual.DiscriminatorBlock`.
        init: see `blocks.init.initialize`.
        class_head: tell the classes apart instead of projecting the label (AC-GAN, arXiv:1610.09585; WGAN-GP's
            conditional critic).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        width: int = 64,
        multiples: Sequence[int] | None = None,
        coarsest: int | None = None,
        hidden: Hidden = "output",
        attention_at: int | None = None,
        attention_repeats: bool = False,
        pooling: Pooling = "sum",
        spectral: bool = True,
        head_spectral: bool = True,
        rectified_shortcut: bool = False,
        init: Init = "orthogonal",
        class_head: Annotated[bool, ADDED_LATER] = False,
    ) -> None:
        super().__init__()
        check_resolution(resolution)
        check_sizes(classes=classes, channels=channels, width=width)
        check_choice("hidden", hidden, Hidden)
        check_choice("pooling", pooling, Pooling)
        check_heads(classes=classes, class_head=class_head, codes=0)
        coarsest = {32: 8, 48: 3}.get(resolution, 4) if coarsest is None else coarsest
        sides = discriminator_sides(resolution, coarsest=coarsest)
        check_attention(attention_at, sides=sides)
        self.classes = classes
        self.pooling = pooling
        # Blocks that halve the side down to `coarsest`.
        widths = discriminator_widths(resolution, width=width, coarsest=coarsest, multiples=multiples)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(
                before,
                after,
                hidden_channels=before if hidden == "input_throughout" or (hidden == "input" and index) else after,
                downsample=index < len(sides),
                first=index == 0,
                spectral=spectral,
                rectified_shortcut=rectified_shortcut,
            )
            for index, (before, after) in enumerate(pairwise([channels, *widths]))
        )
        # Attention after one block, or after it and each later one.
        self.attention_after = None if attention_at is None else sides.index(attention_at)
        self.attention = None
        if self.attention_after is not None:
            self.attention = SelfAttention2d(widths[self.attention_after], spectral=spectral)
        later = widths[self.attention_after + 1 :] if self.attention_after is not None and attention_repeats else []
        self.later_attention = nn.ModuleList(SelfAttention2d(width, spectral=spectral) for width in later)
        # Pooled features to logits.
        self.linear = nn.Linear(widths[-1], 1)
        self.embedding = ClassEmbedding(classes, widths[-1]) if classes and not class_head else None
        self.heads = Heads(widths[-1], classes=classes) if class_head else None
        if spectral and head_spectral:
            for layer in (self.linear, self.embedding, self.heads and self.heads.classes):
                if layer is not None:
                    spectral_norm(layer)
        initialize(self, init=init)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | DiscriminatorOutput:
        """Return logits (N,), larger for real images; with a class head, an output that holds it.

        Args:
            images: (N, channels, resolution, resolution) in [-1, 1].
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes or with a class head.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        if self.heads is None:
            check_labels(labels, classes=self.classes)
        x = images
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attention is not None and self.attention_after is not None:
                if index == self.attention_after:
                    x = self.attention(x)
                elif index > self.attention_after and len(self.later_attention):
                    x = self.later_attention[index - self.attention_after - 1](x)
        features = functional.relu(x).sum((2, 3)) if self.pooling == "sum" else functional.relu(x).mean((2, 3))
        logits = projection(features, labels, linear=self.linear, embedding=self.embedding)
        return logits if self.heads is None else self.heads(features, logits)
