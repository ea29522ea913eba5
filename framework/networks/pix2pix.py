"""pix2pix: a U-Net that translates pictures and a discriminator of patches (Isola et al., arXiv:1611.07004).

The layers are those of the authors' PyTorch program. The paper's noise is dropout alone, in training and at inference
(section 3.3), where batch norm also uses the statistics of the picture that is translated instead of running ones. Both
are options of the generator, so that they stay with its checkpoint. In the paper's loss the discriminator's part is
halved, and 100 times the L1 distance to the target is added to the non-saturating part of the generator (section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.dropout import Dropout, dropout_seeds
from framework.networks.blocks.init import initialize_normal
from framework.networks.blocks.norm import BatchNorm2d, InferenceStatistics, Statistics
from framework.networks.draw import Draw
from framework.networks.sizes import check_choice, check_sizes
from framework.utils.errors import FrameworkError

Norm = Literal["batch", "instance", "none"]
"""The normalisation after a convolution; `instance` has neither weights nor running statistics."""

Upsampling = Literal["transposed", "nearest", "bilinear"]
"""The way to twice the side: a transposed 4x4 convolution (the paper's), or an interpolation before a 3x3 convolution,
which draws no checkerboard (Odena et al. 2016, doi:10.23915/distill.00003)."""

_SLOPE = 0.2
"""Slope of the leaky ReLU below zero."""

_WIDEST = 8
"""Most channels of a feature map, in multiples of `width`."""

_UNDROPPED = 4
"""Levels of the U-Net, from the image inwards, that have no dropout by default."""


class Generator(nn.Module):
    """pix2pix's U-Net: images (N, target_channels, H, W) in [-1, 1] from pictures (N, source_channels, H, W).

    Level 0 is at half the side, level `num_downs` - 1 the innermost; each level's input also reaches its mirror image
    on the way up. H and W must be multiples of 2 ** `num_downs`, and may differ.

    Args:
        source_channels: channels of the picture that is translated, 3 for colour, 1 for grey.
        target_channels: channels of the image that is made.
        num_downs: how often the side is halved, at least 2: 8 for the paper's 256 px, 7 for 128 px.
        width: channels at level 0; each further level has twice as many, up to eight times `width`.
        norm: normalisation after all convolutions but the outermost two and the innermost one on the way down.
        dropout: share that is dropped where there is dropout.
        dropout_at: levels whose way up ends with dropout; None = levels 4 to `num_downs` - 2, as in the authors'
            PyTorch program, so none below six levels. Section 6.1.1 has (7, 6, 5) of eight.
        upsampling: `transposed`, `nearest` or `bilinear`; see `Upsampling`.
        inference_statistics: what batch norm normalises by in evaluation mode: `image` = the picture's own statistics
            (the paper trains and translates batches of one; for networks trained on larger batches it changes colours),
            `running` = those collected in training.
        inference_dropout: whether there is dropout in evaluation mode too, which then needs `dropout` in `forward`.
        statistics: pictures that batch norm averages over in training: `global` = of all processes, `local` = of each.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        source_channels: int = 3,
        target_channels: int = 3,
        num_downs: int = 8,
        width: int = 64,
        norm: Norm = "batch",
        dropout: float = 0.5,
        dropout_at: Sequence[int] | None = None,
        upsampling: Upsampling = "transposed",
        inference_statistics: InferenceStatistics = "image",
        inference_dropout: bool = True,
        statistics: Statistics = "global",
    ) -> None:
        super().__init__()
        check_sizes(classes=0, source_channels=source_channels, target_channels=target_channels, width=width)
        check_choice("norm", norm, Norm)
        check_choice("upsampling", upsampling, Upsampling)
        if num_downs < 2:
            raise FrameworkError(f"num_downs={num_downs} must be at least 2")
        if dropout_at is None:
            dropout_at = range(_UNDROPPED, num_downs - 1)
        if not set(dropout_at) <= set(range(1, num_downs)):
            raise FrameworkError(
                f"dropout_at={tuple(dropout_at)} must be levels from 1 to num_downs - 1={num_downs - 1}"
            )
        self.num_downs = num_downs
        inner, bias = num_downs - 1, norm != "batch"
        widths = [width * min(1 << level, _WIDEST) for level in range(num_downs)]

        def normalised(count: int) -> nn.Module:
            return _norm(norm, count, statistics=statistics, inference_statistics=inference_statistics)

        self.downs = nn.ModuleList(
            Down(before, after, norm=nn.Identity() if level in (0, inner) else normalised(after), bias=bias)
            for level, (before, after) in enumerate(pairwise([source_channels, *widths]))
        )
        self.ups = nn.ModuleList(
            Up(
                widths[level] * (1 if level == inner else 2),  # what comes up, beside this level's input
                widths[level - 1] if level else target_channels,
                norm=normalised(widths[level - 1]) if level else nn.Identity(),
                bias=bias or level == 0,
                upsampling=upsampling,
                dropout=Dropout(dropout, layer=level, at_inference=inference_dropout) if level in dropout_at else None,
            )
            for level in range(num_downs)
        )
        initialize_normal(self)

    def stochastic(self, draw: Draw) -> dict[str, Any]:
        """Return the seeds of dropout, a keyword argument of `forward`; nothing without dropout."""
        return {"dropout": dropout_seeds(draw)} if any(up.dropout is not None for up in self.ups) else {}

    def forward(self, source: Tensor, *, dropout: Tensor | None = None) -> Tensor:
        """Return images (N, target_channels, H, W) in [-1, 1].

        Args:
            source: pictures to translate, (N, source_channels, H, W) in [-1, 1].
            dropout: (N,) int64 seeds from `stochastic`; needed if there is dropout, except in evaluation mode without
                `inference_dropout`.

        Raises:
            FrameworkError: a side is no multiple of 2 ** `num_downs`, or seeds are missing.
        """
        multiple = 1 << self.num_downs
        if source.shape[2] % multiple or source.shape[3] % multiple:
            raise FrameworkError(
                f"pictures of {source.shape[2]} x {source.shape[3]} px: with num_downs={self.num_downs} both "
                f"sides must be multiples of {multiple}"
            )
        # Down: every level sees the one before through a leaky ReLU, the first one the picture itself.
        levels: list[Tensor] = []
        for down in self.downs:
            levels.append(down(functional.leaky_relu(levels[-1], _SLOPE) if levels else source))
        # Up: what comes from inside lies behind the level's own features.
        x = self.ups[-1](levels[-1], dropout)
        for up, level in zip(self.ups[-2::-1], levels[-2::-1], strict=True):
            x = up(torch.cat([level, x], dim=1), dropout)
        return torch.tanh(x)


class Down(nn.Module):
    """A 4x4 convolution that halves the side, and a normalisation.

    Args:
        in_channels: C.
        out_channels: C'.
        norm: the normalisation of (N, C', H/2, W/2).
        bias: learn a bias of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: nn.Module, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/2, W/2)."""
        return self.norm(self.conv(images))


class Up(nn.Module):
    """A ReLU, a convolution that doubles the side, a normalisation, and dropout where there is some.

    Args:
        in_channels: C.
        out_channels: C'.
        norm: the normalisation of (N, C', 2H, 2W).
        bias: learn a bias of the convolution.
        upsampling: see `Upsampling`.
        dropout: the dropout, or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: nn.Module,
        bias: bool,
        upsampling: Upsampling,
        dropout: Dropout | None,
    ) -> None:
        super().__init__()
        self.upsampling = upsampling
        if upsampling == "transposed":
            self.conv: nn.Module = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        self.norm = norm
        self.dropout = dropout

    def forward(self, images: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) to (N, C', 2H, 2W); `seeds` (N,) int64 are those of dropout."""
        x = functional.relu(images)
        if self.upsampling != "transposed":
            x = functional.interpolate(x, scale_factor=2, mode=self.upsampling)
        x = self.norm(self.conv(x))
        return x if self.dropout is None else self.dropout(x, seeds)


class Discriminator(nn.Module):
    """The PatchGAN: logits (N, 1, h, w), one for each of many overlapping patches of a picture and its source.

    A patch has 16, 34, 70, 142 or 286 px for `num_layers` of 1 to 5; 70 is the paper's.

    Args:
        source_channels: channels of the picture that is translated; 0 = images are judged alone.
        target_channels: channels of the image that is judged.
        num_layers: convolutions that halve the side; 0 = the paper's PixelGAN, which looks at single pixels.
        width: channels after the first convolution; each further one has twice as many, up to eight times `width`.
        norm: normalisation after all convolutions but the first and the last.
        statistics: pictures that batch norm averages over: `global` (of all processes) or `local` (of each).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        source_channels: int = 3,
        target_channels: int = 3,
        num_layers: int = 3,
        width: int = 64,
        norm: Norm = "batch",
        statistics: Statistics = "global",
    ) -> None:
        super().__init__()
        check_sizes(classes=0, target_channels=target_channels, width=width)
        check_choice("norm", norm, Norm)
        for name, value in {"source_channels": source_channels, "num_layers": num_layers}.items():
            if value < 0:
                raise FrameworkError(f"{name}={value} must be at least 0")
        self.source_channels, self.num_layers = source_channels, num_layers
        hidden = [width * min(1 << exponent, _WIDEST) for exponent in range(max(num_layers, 1) + 1)]
        sizes = list(pairwise([source_channels + target_channels, *hidden, 1]))
        kernel, padding = (4, 1) if num_layers else (1, 0)
        last = len(sizes) - 1
        # A bias before batch norm would have no effect; the authors' PixelGAN has none in its last layer either.
        self.layers = nn.ModuleList(
            nn.Conv2d(
                before,
                after,
                kernel,
                stride=2 if index < num_layers else 1,
                padding=padding,
                bias=norm != "batch" or index == 0 or (index == last and num_layers > 0),
            )
            for index, (before, after) in enumerate(sizes)
        )
        self.norms = nn.ModuleList(_norm(norm, count, statistics=statistics) for count in hidden[1:])
        initialize_normal(self)

    def forward(self, images: Tensor, source: Tensor | None = None) -> Tensor:
        """Return logits (N, 1, h, w), larger for real pairs.

        Args:
            images: (N, target_channels, H, W) in [-1, 1], real or generated.
            source: (N, source_channels, H, W) in [-1, 1], the pictures that they are translations of.

        Raises:
            FrameworkError: the source is missing, or the images are too small for one patch map.
        """
        if self.source_channels and source is None:
            raise FrameworkError(
                f"this discriminator was built with source_channels={self.source_channels}: pass the pictures "
                f"that the images are translations of, shape (N, {self.source_channels}, H, W)"
            )
        smallest = 3 << self.num_layers if self.num_layers else 1
        if min(images.shape[2:]) < smallest:
            raise FrameworkError(
                f"images of {images.shape[2]} x {images.shape[3]} px are too small for num_layers={self.num_layers}: "
                f"both sides must be at least {smallest}"
            )
        x = images if source is None or not self.source_channels else torch.cat([source, images], dim=1)
        x = functional.leaky_relu(self.layers[0](x), _SLOPE)
        for layer, norm in zip(self.layers[1:-1], self.norms, strict=True):
            x = functional.leaky_relu(norm(layer(x)), _SLOPE)
        return self.layers[-1](x)


def _norm(
    kind: Norm, channels: int, *, statistics: Statistics, inference_statistics: InferenceStatistics = "running"
) -> nn.Module:
    """Return a normalisation of (N, channels, H, W)."""
    if kind == "batch":
        return BatchNorm2d(channels, statistics=statistics, inference_statistics=inference_statistics)
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.Identity()
