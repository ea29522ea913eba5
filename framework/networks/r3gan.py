"""R3GAN: residual networks in the style of ConvNeXt, without normalisation, the same for both players.

Huang et al., arXiv:2501.05441. The networks consist of inverted bottlenecks with grouped 3x3 convolutions and bilinear
resampling; biases stand before leaky ReLUs only, and fix-up initialisation preserves variance (Zhang et al.,
arXiv:1901.09321). The generator starts from a learned 4x4 constant scaled by a linear map of the latent, and its images
are not squashed. The paper's loss is `objectives.relativistic.RelativisticPairing` with R1 and R2 on every turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.norm import LabelMap
from framework.networks.blocks.resample import downsample2d, setup_filter, upsample2d
from framework.networks.labels import check_labels
from framework.networks.sizes import check_sizes
from framework.utils.errors import FrameworkError

_SLOPE = 0.2
"""Slope of the leaky ReLU below zero."""

_GAIN = math.sqrt(2 / (1 + _SLOPE**2))
"""Gain that restores the variance after the leaky ReLU."""

_LAYERS_PER_BLOCK = 3
"""Convolutions of a residual block; fix-up's exponent depends on it."""

_START = 4
"""Side of the coarsest feature map."""


class Block(nn.Module):
    """The residual block `x + project(f(grouped(f(expand(x) + b1)) + b2))` with f = leaky ReLU.

    Args:
        channels: C.
        expansion: hidden channels per channel.
        groups: groups of the 3x3 convolution between the two 1x1 convolutions; divides the hidden channels.
        depth: L, the number of residual blocks in the whole network. The first two weights start `L^(-1/4)` times as
            large as variance preservation asks for, the last one at zero (fix-up, three layers per block).
    """

    def __init__(self, channels: int, *, expansion: int, groups: int, depth: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bias1 = nn.Parameter(torch.zeros(hidden))
        self.grouped = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups, bias=False)
        self.bias2 = nn.Parameter(torch.zeros(hidden))
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        fixup = depth ** (-1 / (2 * _LAYERS_PER_BLOCK - 2))
        _preserve_variance(self.expand, gain=_GAIN * fixup)
        _preserve_variance(self.grouped, gain=_GAIN * fixup)
        _preserve_variance(self.project, gain=0.0)

    def forward(self, images: Tensor) -> Tensor:
        """Add the residual to (N, C, H, W); same shape."""
        x = functional.leaky_relu(self.expand(images) + self.bias1[:, None, None], _SLOPE)
        x = functional.leaky_relu(self.grouped(x) + self.bias2[:, None, None], _SLOPE)
        return images + self.project(x)


class Resample(nn.Module):
    """A layer that doubles or halves the resolution bilinearly; a 1x1 convolution changes the number of channels.

    Both operations are linear and commute; the convolution, which is absent where C = C', runs at the lower resolution.
    Pixels outside the image count as zero.

    Args:
        in_channels: C.
        out_channels: C'.
        up: double the resolution; otherwise halve it.
    """

    filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.register_buffer("filter", setup_filter((1, 3, 3, 1)), persistent=False)
        self.conv = None
        if in_channels != out_channels:
            self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            _preserve_variance(self.conv)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', 2H, 2W) or (N, C', H/2, W/2)."""
        x = images if self.up else downsample2d(images, self.filter)
        x = x if self.conv is None else self.conv(x)
        return upsample2d(x, self.filter) if self.up else x


class Generator(nn.Module):
    """R3GAN's generator: images (N, channels, resolution, resolution), in about [-1, 1], from latents and labels.

    Args:
        resolution: side of the square image, a power of two of at least 8.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        z_dim: length of the latent.
        embedding_dim: length of the label's embedding, appended to the latent; None = `z_dim`.
        widths: channels at 4, 8, ..., `resolution` px; None = the paper's: 768 up to 32 px, then half per doubling.
        num_blocks: residual blocks at each of these resolutions, one number for all or one for each.
        groups: groups of the 3x3 convolutions at each of these resolutions; None = one per 8 channels (768: 96).
        expansion: hidden channels per channel.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        z_dim: int = 64,
        embedding_dim: int | None = None,
        widths: Sequence[int] | None = None,
        num_blocks: int | Sequence[int] = 2,
        groups: int | Sequence[int] | None = None,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        embedding_dim = z_dim if embedding_dim is None else embedding_dim
        check_sizes(classes=classes, channels=channels, z_dim=z_dim, embedding_dim=embedding_dim, expansion=expansion)
        widths = _widths(resolution, widths)
        make_blocks = _blocks(widths, num_blocks=num_blocks, groups=groups, expansion=expansion)
        self.z_dim = z_dim
        self.classes = classes
        self.embedding = LabelMap(classes, embedding_dim) if classes else None
        self.linear = nn.Linear(z_dim + (embedding_dim if classes else 0), widths[0], bias=False)
        self.basis = nn.Parameter(torch.randn(widths[0], _START, _START))
        self.stages = nn.ModuleList(
            nn.Sequential(*([Resample(widths[stage - 1], width, up=True)] if stage else []), *make_blocks(stage))
            for stage, width in enumerate(widths)
        )
        self.to_image = nn.Conv2d(widths[-1], channels, 1, bias=False)
        for layer in (self.embedding, self.linear, self.to_image):
            if layer is not None:
                _preserve_variance(layer)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, channels, resolution, resolution) in about [-1, 1].

        Args:
            z: latents (N, z_dim), standard normal.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        check_labels(labels, classes=self.classes)
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], 1)
        x = self.basis * self.linear(z)[:, :, None, None]
        for stage in self.stages:
            x = stage(x)
        return self.to_image(x)


class Discriminator(nn.Module):
    """R3GAN's discriminator: logits (N,) from images (N, channels, resolution, resolution) and labels.

    A depthwise 4x4 convolution replaces each of the last feature maps by its inner product with a learned basis. With
    classes, the logit is the inner product of a linear map of the result and the label's embedding.

    Args:
        resolution: side of the square image, a power of two of at least 8.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        embedding_dim: length of the label's embedding; None = channels at 4 px.
        widths, num_blocks, groups, expansion: as for the generator, coarsest first.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        embedding_dim: int | None = None,
        widths: Sequence[int] | None = None,
        num_blocks: int | Sequence[int] = 2,
        groups: int | Sequence[int] | None = None,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        widths = _widths(resolution, widths)
        embedding_dim = widths[0] if embedding_dim is None else embedding_dim
        check_sizes(classes=classes, channels=channels, embedding_dim=embedding_dim, expansion=expansion)
        make_blocks = _blocks(widths, num_blocks=num_blocks, groups=groups, expansion=expansion)
        self.classes = classes
        self.from_image = nn.Conv2d(channels, widths[-1], 1, bias=False)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *make_blocks(stage), *([Resample(widths[stage], widths[stage - 1], up=False)] if stage else [])
            )
            for stage in reversed(range(len(widths)))
        )
        self.basis = nn.Conv2d(widths[0], widths[0], _START, groups=widths[0], bias=False)
        self.linear = nn.Linear(widths[0], embedding_dim if classes else 1, bias=False)
        self.embedding = LabelMap(classes, embedding_dim) if classes else None
        for layer in (self.from_image, self.basis, self.linear):
            _preserve_variance(layer)
        if self.embedding is not None:
            _preserve_variance(self.embedding, gain=1 / math.sqrt(embedding_dim))

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
        for stage in self.stages:
            x = stage(x)
        features = self.linear(self.basis(x).flatten(1))
        if self.embedding is None:
            return features.squeeze(1)
        return (features * self.embedding(labels)).sum(1)


@torch.no_grad()
def _preserve_variance(layer: nn.Linear | nn.Conv2d, *, gain: float = 1.0) -> None:
    """Draw the layer's weight (out, in per group, ...) from N(0, gain^2 / fan-in)."""
    layer.weight.normal_(0.0, gain / math.sqrt(layer.weight[0].numel()))


def _widths(resolution: int, widths: Sequence[int] | None) -> list[int]:
    """Return the channels at 4, 8, ..., `resolution` px; None = the paper's."""
    if resolution < 2 * _START or resolution & (resolution - 1):
        raise FrameworkError(f"resolution={resolution} must be a power of two of at least {2 * _START}")
    sides = [_START << exponent for exponent in range((resolution // _START).bit_length())]
    if widths is None:
        return [768 // max(1, side // 32) for side in sides]
    return _per_stage("widths", widths, len(sides))


def _per_stage(name: str, values: int | Sequence[int], num_stages: int) -> list[int]:
    """Return one number for each resolution, or raise a FrameworkError that names the argument."""
    values = [values] * num_stages if isinstance(values, int) else list(values)
    if len(values) != num_stages or min(values) < 1:
        raise FrameworkError(f"{name}={values} must be {num_stages} positive numbers, for 4, 8, ... px")
    return values


def _blocks(
    widths: list[int], *, num_blocks: int | Sequence[int], groups: int | Sequence[int] | None, expansion: int
) -> Callable[[int], list[nn.Module]]:
    """Return a function that makes the residual blocks of a resolution, given its index from the coarsest."""
    numbers = _per_stage("num_blocks", num_blocks, len(widths))
    groups = _per_stage("groups", [max(1, w // 8) for w in widths] if groups is None else groups, len(widths))
    for width, number in zip(widths, groups, strict=True):
        if width * expansion % number:
            raise FrameworkError(
                f"groups={number} must divide the {width * expansion} hidden channels of width {width}"
            )
    depth = sum(numbers)

    def make(stage: int) -> list[nn.Module]:
        return [
            Block(widths[stage], expansion=expansion, groups=groups[stage], depth=depth) for _ in range(numbers[stage])
        ]

    return make
