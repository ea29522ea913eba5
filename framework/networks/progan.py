"""ProGAN: networks that grow from 4 x 4 pixels, with equalised learning rate (Karras et al., arXiv:1710.10196).

Table 2 of the paper, sections 3 (minibatch standard deviation), 4.1 (equalised learning rate), 4.2 (pixel norm) and
appendix A.1. Labels are not in the paper; they enter as in Mescheder et al. (arXiv:1801.04406, class-conditional
ImageNet): a normalised learned embedding of the class is appended to the generator's latent, here with the same length
so that neither dominates, and the discriminator has one logit per class, of which that of the image's label is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.equalized import EqualizedConv2d, EqualizedLinear, pixel_norm
from framework.networks.blocks.growing import COARSEST, Growing, doubled, feature_widths, halved
from framework.networks.blocks.minibatch import Grouping, MinibatchStddev
from framework.networks.labels import check_labels, one_hot
from framework.networks.sizes import check_sizes

HE = math.sqrt(2)
"""He's gain before a rectifier, without regard to the leak."""


def rectified(x: Tensor) -> Tensor:
    """Return the leaky ReLU of x, with the paper's slope 0.2; any shape, same shape."""
    return functional.leaky_relu(x, 0.2)


class GeneratorStart(nn.Module):
    """The generator's first layers, dense and 3x3, each rectified and pixel-normalised.

    The paper calls the dense layer a 4x4 convolution of a single padded pixel. As such it has one bias per channel, and
    its fan-in counts the 16 positions of the kernel: hence the gain `sqrt(2) / 4`.

    Args:
        latent_dim: length of the input, the label's embedding included.
        width: number of channels.
        gain: gain of the dense layer's weight.
        bias_per_pixel: learn a bias for each channel and pixel, as a dense layer has, not for each channel.
    """

    def __init__(self, *, latent_dim: int, width: int, gain: float, bias_per_pixel: bool) -> None:
        super().__init__()
        self.dense = EqualizedLinear(latent_dim, width * COARSEST**2, bias=False, gain=gain)
        side = COARSEST if bias_per_pixel else 1
        self.bias = nn.Parameter(torch.zeros(width, side, side))
        self.conv = EqualizedConv2d(width, width, 3, gain=HE)

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents (N, latent_dim) to the first feature map (N, width, 4, 4)."""
        x = self.dense(latents).unflatten(1, (-1, COARSEST, COARSEST)) + self.bias
        # Table 2 normalises after 3x3 convolutions; the authors' program also does so after this layer.
        x = pixel_norm(rectified(x))
        return pixel_norm(rectified(self.conv(x)))


class GeneratorBlock(nn.Module):
    """The generator's block: upsampling by 2, then two 3x3 convolutions, each rectified and pixel-normalised.

    Args:
        in_channels: C.
        out_channels: C'.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, gain=HE)
        self.conv2 = EqualizedConv2d(out_channels, out_channels, 3, gain=HE)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', 2H, 2W)."""
        x = pixel_norm(rectified(self.conv1(doubled(x))))
        return pixel_norm(rectified(self.conv2(x)))


class Generator(Growing):
    """ProGAN's generator: images (N, channels, side, side) from latents and labels; its last layer is linear.

    Args:
        resolution: side of the fully grown images, a power of two of at least 4.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        z_dim: length of the latent.
        channel_base: a feature map of side s has `min(channel_base / s, channel_max)` channels.
        channel_max: see `channel_base`.
        widths: channels at 4, 8, ..., `resolution` px; None = those by `channel_base`.
        normalize_latents: scale each latent to a mean square of 1.
        to_rgb_gain: gain of the layers that make images (pytorch_GAN_zoo: sqrt(2)).
        input_gain: gain of the first layer (pytorch_GAN_zoo: sqrt(2)); see `GeneratorStart`.
        bias_per_pixel: bias of the first layer (pytorch_GAN_zoo: True); see `GeneratorStart`.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        z_dim: int = 512,
        channel_base: int = 16_384,
        channel_max: int = 512,
        widths: Sequence[int] | None = None,
        normalize_latents: bool = True,
        to_rgb_gain: float = 1.0,
        input_gain: float = HE / 4,
        bias_per_pixel: bool = False,
    ) -> None:
        super().__init__(resolution=resolution)
        check_sizes(channels=channels, classes=classes, z_dim=z_dim)
        self.z_dim, self.classes, self.normalize_latents = z_dim, classes, normalize_latents
        widths = feature_widths(self.resolutions, channel_base=channel_base, channel_max=channel_max, widths=widths)
        self.embedding = EqualizedLinear(classes, z_dim, bias=False) if classes else None
        self.start = GeneratorStart(
            latent_dim=2 * z_dim if classes else z_dim, width=widths[0], gain=input_gain, bias_per_pixel=bias_per_pixel
        )
        self.blocks = nn.ModuleList(GeneratorBlock(before, after) for before, after in pairwise(widths))
        self.to_rgb = nn.ModuleList(EqualizedConv2d(width, channels, 1, gain=to_rgb_gain) for width in widths)

    def forward(
        self, z: Tensor, labels: Tensor | None = None, *, alpha: float | None = None, resolution: int | None = None
    ) -> Tensor:
        """Return images (N, channels, resolution, resolution) in about [-1, 1].

        Args:
            z: latents (N, z_dim), standard normal.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.
            alpha: share of the finest layers; None = see `Growing.path`.
            resolution: side of the images; None = the current one.

        Raises:
            FrameworkError: labels are missing or have the wrong shape, or the network has no such path.
        """
        level, alpha = self.path(resolution=resolution, alpha=alpha)
        x = coarse = self.start(self._latents(z, labels))
        for block in list(self.blocks)[:level]:
            x, coarse = block(x), x
        images = self.to_rgb[level](x)
        if alpha == 1.0:
            return images
        return torch.lerp(doubled(self.to_rgb[level - 1](coarse)), images, alpha)

    def _latents(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the first layer's input (N, latent_dim): the latent, followed by the label's embedding."""
        if self.normalize_latents:
            z = pixel_norm(z)
        if self.embedding is None:
            return z
        embedded = self.embedding(one_hot(labels, classes=self.classes, dtype=z.dtype))
        return torch.cat([z, pixel_norm(embedded).to(z.dtype)], dim=1)


class DiscriminatorBlock(nn.Module):
    """The discriminator's block: two rectified 3x3 convolutions and average pooling by 2.

    Args:
        in_channels: C.
        out_channels: C'.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, in_channels, 3, gain=HE)
        self.conv2 = EqualizedConv2d(in_channels, out_channels, 3, gain=HE)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/2, W/2)."""
        return halved(rectified(self.conv2(rectified(self.conv1(x)))))


class DiscriminatorEnd(nn.Module):
    """The discriminator's last layers: minibatch standard deviation, 3x3, 4x4 (dense), dense.

    Args:
        width: number of channels.
        num_logits: number of logits per image.
        gain: gain of the last layer's weight.
        minibatch_stddev: see `blocks.minibatch`; None = no such layer.
    """

    def __init__(self, *, width: int, num_logits: int, gain: float, minibatch_stddev: MinibatchStddev | None) -> None:
        super().__init__()
        self.minibatch_stddev = minibatch_stddev
        added = 0 if minibatch_stddev is None else minibatch_stddev.num_features
        self.conv = EqualizedConv2d(width + added, width, 3, gain=HE)
        self.dense = EqualizedLinear(width * COARSEST**2, width, gain=HE)
        self.output = EqualizedLinear(width, num_logits, gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last feature map (N, width, 4, 4) to logits (N, num_logits)."""
        if self.minibatch_stddev is not None:
            x = self.minibatch_stddev(x)
        x = rectified(self.conv(x)).flatten(1)
        return self.output(rectified(self.dense(x)))


class Discriminator(Growing):
    """ProGAN's discriminator: logits (N,) from images (N, channels, side, side) and labels; the side decides the path.

    Args:
        resolution: side of the fully grown images, a power of two of at least 4.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        channel_base: a feature map of side s has `min(channel_base / s, channel_max)` channels.
        channel_max: see `channel_base`.
        widths: channels at 4, 8, ..., `resolution` px; None = those by `channel_base`.
        group_size: images over which the minibatch standard deviation is taken, as in the authors' program (the paper
            describes the whole minibatch, for which any number from the batch size will do); 0 = without the layer.
        grouping: how images are assigned to groups: `strided`, or `contiguous` (pytorch_GAN_zoo).
        unbiased_stddev: divide by the group's size less one (pytorch_GAN_zoo).
        output_gain: gain of the last layer (pytorch_GAN_zoo: sqrt(2)).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        channel_base: int = 16_384,
        channel_max: int = 512,
        widths: Sequence[int] | None = None,
        group_size: int = 4,
        grouping: Grouping = "strided",
        unbiased_stddev: bool = False,
        output_gain: float = 1.0,
    ) -> None:
        super().__init__(resolution=resolution)
        check_sizes(channels=channels, classes=classes)
        self.classes = classes
        widths = feature_widths(self.resolutions, channel_base=channel_base, channel_max=channel_max, widths=widths)
        self.from_rgb = nn.ModuleList(EqualizedConv2d(channels, width, 1, gain=HE) for width in widths)
        self.blocks = nn.ModuleList(self._block(fine, coarse) for coarse, fine in pairwise(widths))
        stddev = None
        if group_size:
            stddev = MinibatchStddev(group_size=group_size, grouping=grouping, unbiased=unbiased_stddev)
        self.end = DiscriminatorEnd(
            width=widths[0], num_logits=max(classes, 1), gain=output_gain, minibatch_stddev=stddev
        )

    def _block(self, in_channels: int, out_channels: int) -> nn.Module:
        """Return a block (N, C, H, W) -> (N, C', H/2, W/2); StyleGAN replaces it."""
        return DiscriminatorBlock(in_channels, out_channels)

    def forward(self, images: Tensor, labels: Tensor | None = None, *, alpha: float | None = None) -> Tensor:
        """Return logits (N,), larger for real images.

        Args:
            images: (N, channels, side, side) in [-1, 1], the side one of `resolutions`.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.
            alpha: share of the finest layers; None = see `Growing.path`.

        Raises:
            FrameworkError: labels are missing or have the wrong shape, or the network has no such path.
        """
        check_labels(labels, classes=self.classes)
        level, alpha = self.path(resolution=images.shape[-1], alpha=alpha)
        x = self._features(images, level)
        for index in reversed(range(level)):
            x = self.blocks[index](x)
            if alpha < 1.0 and index == level - 1:
                x = torch.lerp(self._features(halved(images), index), x, alpha)
        logits = self.end(x)
        if not self.classes:
            return logits.squeeze(1)
        return (logits * one_hot(labels, classes=self.classes, dtype=logits.dtype)).sum(1)

    def _features(self, images: Tensor, level: int) -> Tensor:
        """Return the first feature map (N, C, side, side) for images of this level."""
        return rectified(self.from_rgb[level](images))
