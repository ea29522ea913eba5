"""StyleGAN2's discriminator: images to logits (arXiv:1912.04958, section 4; conditional: arXiv:2006.06676, appendix C).

Modules are named by the side of their feature map, so that a part can be frozen by name for transfer learning
(arXiv:2002.10964): `blocks.1024.from_image`, `blocks.1024.conv0`, ..., `blocks.8.conv1`, `head.conv`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from framework.networks.blocks.activation import bias_act
from framework.networks.blocks.equalized import EqualizedLinear
from framework.networks.blocks.mapping import Mapping
from framework.networks.blocks.minibatch import MinibatchStddev
from framework.networks.blocks.precision import follows_autocast, full_precision
from framework.networks.blocks.resample import downsample2d, setup_filter
from framework.networks.blocks.resampled import ResampledConv2d
from framework.networks.stylegan2_synthesis import Architecture, check_architecture, feature_widths


class DiscriminatorBlock(nn.Module):
    """The discriminator's block: the layers at one resolution, which they halve.

    Args:
        in_channels: C.
        out_channels: C'.
        channels: channels of the image.
        architecture: see `Architecture`.
        first: whether the block is the finest.
        filter: the resampling filter, from `setup_filter`.
        conv_clamp: bound on the layers' outputs; None = no bound.
        half_precision: whether the block runs under autocast.
    """

    filter: Tensor
    from_image: ResampledConv2d | None
    shortcut: ResampledConv2d | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int,
        architecture: Architecture,
        first: bool,
        filter: Tensor,
        conv_clamp: float | None,
        half_precision: bool,
    ) -> None:
        super().__init__()
        self.half_precision, self.skip = half_precision, architecture == "skip"
        self.register_buffer("filter", filter, persistent=False)
        options: dict[str, Any] = {"activation": "lrelu", "conv_clamp": conv_clamp}
        self.from_image = self.shortcut = None
        if first or self.skip:
            self.from_image = ResampledConv2d(channels, in_channels, 1, **options)
        self.conv0 = ResampledConv2d(in_channels, in_channels, 3, **options)
        self.conv1 = ResampledConv2d(in_channels, out_channels, 3, down=2, filter=filter, **options)
        if architecture == "resnet":
            self.shortcut = ResampledConv2d(in_channels, out_channels, 1, bias=False, down=2, filter=filter)

    def forward(self, x: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, C', H/2, W/2) and the image for the next block.

        Args:
            x: features (N, C, H, W) of the finer block; None for the first.
            image: (N, channels, H, W). The skip architecture returns it at (N, channels, H/2, W/2); the others use it
                in the first block only, and return it unchanged.
        """
        with follows_autocast(image, allowed=self.half_precision):
            if x is not None and not self.half_precision:
                x = x.to(image.dtype)
            if self.from_image is not None:
                colours = self.from_image(image)
                x = colours if x is None else x + colours
            assert x is not None
            y = self.conv1(self.conv0(x))
            if self.shortcut is not None:
                y = (y + self.shortcut(x)) * math.sqrt(0.5)  # keeps the variance of its summands
            return y, downsample2d(image, self.filter) if self.skip else image


class Head(nn.Module):
    """The discriminator's last layers, in full precision: minibatch deviation, a 3x3 convolution, two linear layers.

    Args:
        width: C.
        channels: channels of the image.
        architecture: see `Architecture`.
        outputs: numbers per image.
        stddev_group_size: see `MinibatchStddev`.
        stddev_features: `num_features` of `MinibatchStddev`; 0 = no minibatch deviation.
        conv_clamp: bound on the 3x3 convolution's output; None = no bound.
    """

    def __init__(
        self,
        width: int,
        *,
        channels: int,
        architecture: Architecture,
        outputs: int,
        stddev_group_size: int,
        stddev_features: int,
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.from_image = None
        if architecture == "skip":  # without the clamp, as published
            self.from_image = ResampledConv2d(channels, width, 1, activation="lrelu")
        self.stddev = None
        if stddev_features:
            self.stddev = MinibatchStddev(group_size=stddev_group_size, num_features=stddev_features)
        self.conv = ResampledConv2d(width + stddev_features, width, 3, activation="lrelu", conv_clamp=conv_clamp)
        self.hidden = EqualizedLinear(width * 4 * 4, width)
        self.output = EqualizedLinear(width, outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Map features (N, C, 4, 4) to (N, outputs); only the skip architecture uses the image (N, channels, 4, 4)."""
        with full_precision(x):
            x = x.to(self.conv.weight.dtype)
            if self.from_image is not None:
                x = x + self.from_image(image)
            if self.stddev is not None:
                x = self.stddev(x)
            x = self.hidden(self.conv(x).flatten(1))
            return self.output(bias_act(x, activation="lrelu"))


class Discriminator(nn.Module):
    """StyleGAN2's discriminator: logits (N,) from images (N, channels, resolution, resolution) and labels.

    With classes, the logit is the inner product of the head's outputs and a mapped label (projection).

    Args:
        resolution: side of the square image, a power of two of at least 8.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        architecture: `resnet` (the paper's choice), `skip` or `orig`.
        channel_base: a feature map of side s has `channel_base / s` channels, but at most `channel_max`.
        channel_max: see `channel_base`.
        stddev_group_size: images over which the minibatch deviation is taken; groups are formed in the global
            micro-batch.
        stddev_features: channels of the minibatch deviation; 0 = none.
        mapping_layers: layers of the label's mapping network.
        mapping_width: length of a mapped label; None = the head's number of channels.
        resample_filter: taps of the resampling filter.
        conv_clamp: bound on the convolutions' outputs; 256 in the later mixed-precision programs, None in the paper.
        num_half_precision: number of finest resolutions that run under autocast (arXiv:2006.06676, appendix D).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        architecture: Architecture = "resnet",
        channel_base: int = 32_768,
        channel_max: int = 512,
        stddev_group_size: int = 4,
        stddev_features: int = 1,
        mapping_layers: int = 8,
        mapping_width: int | None = None,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        num_half_precision: int = 4,
    ) -> None:
        super().__init__()
        check_architecture(architecture)
        self.classes = classes
        # Blocks that halve the side down to 4 px.
        widths = feature_widths(resolution, channel_base=channel_base, channel_max=channel_max)
        sides = list(widths)[::-1]
        self.blocks = nn.ModuleDict(
            {
                str(side): DiscriminatorBlock(
                    widths[side],
                    widths[coarser],
                    channels=channels,
                    architecture=architecture,
                    first=side == resolution,
                    filter=setup_filter(resample_filter),
                    conv_clamp=conv_clamp,
                    half_precision=index < num_half_precision,
                )
                for index, (side, coarser) in enumerate(pairwise(sides))
            }
        )
        # Features to a logit, or to a vector that is projected on the mapped label.
        mapped = (mapping_width or widths[4]) if classes else 0
        self.head = Head(
            widths[4],
            channels=channels,
            architecture=architecture,
            outputs=mapped or 1,
            stddev_group_size=stddev_group_size,
            stddev_features=stddev_features,
            conv_clamp=conv_clamp,
        )
        self.mapping = None
        if classes:
            self.mapping = Mapping(z_dim=0, w_dim=mapped, num_ws=None, classes=classes, num_layers=mapping_layers)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N,), larger for real images.

        Args:
            images: (N, channels, resolution, resolution) in [-1, 1].
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        x = None
        image = images.to(torch.promote_types(images.dtype, torch.float32))
        for block in self.blocks.values():
            x, image = block(x, image)
        outputs = self.head(x, image)
        if self.mapping is None:
            return outputs.squeeze(1)
        mapped = self.mapping(None, labels)
        return (outputs * mapped).sum(1) / math.sqrt(mapped.shape[1])
