"""StyleGAN2's synthesis network: style vectors to images (arXiv:1912.04958, sections 2 and 4).

Modules are named by the side of their feature map: `blocks.64.conv0.weight`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from framework.networks.blocks.activation import bias_act
from framework.networks.blocks.equalized import EqualizedLinear
from framework.networks.blocks.modulated import modulated_conv2d
from framework.networks.blocks.noise import Noise, random_seeds, seeded_normal
from framework.networks.blocks.precision import follows_autocast, full_precision
from framework.networks.blocks.resample import setup_filter, upsample2d
from framework.networks.blocks.resampled import ResampledConv2d
from framework.utils.errors import FrameworkError

Architecture = Literal["skip", "resnet", "orig"]
"""How images leave the generator and enter the discriminator (figure 7): `skip`: at every resolution, summed or
downsampled; `resnet` and `orig`: at the finest only, with residual blocks or plain ones."""


def check_architecture(architecture: str) -> None:
    """Refuse an unknown architecture.

    Raises:
        FrameworkError: it is not an `Architecture`.
    """
    if architecture not in get_args(Architecture):
        raise FrameworkError(f"architecture={architecture!r} must be one of: {', '.join(get_args(Architecture))}")


def feature_widths(resolution: int, *, channel_base: int, channel_max: int) -> dict[int, int]:
    """Return the channels of feature maps by their side, 4 to `resolution`: `min(channel_base / side, channel_max)`.

    Raises:
        FrameworkError: the resolution is not a power of two of at least 8, or a feature map is left without channels.
    """
    if resolution < 8 or resolution & (resolution - 1):
        raise FrameworkError(f"resolution={resolution} must be a power of two of at least 8: 8, 16, 32, ...")
    if channel_base < resolution or channel_max < 1:
        raise FrameworkError(
            f"channel_base={channel_base} must be at least the resolution, {resolution}, and "
            f"channel_max={channel_max} at least 1"
        )
    sides = [1 << exponent for exponent in range(2, resolution.bit_length())]
    return {side: min(channel_base // side, channel_max) for side in sides}


class StyledConv2d(nn.Module):
    """A modulated 3x3 convolution, followed by noise, bias and leaky ReLU.

    Args:
        in_channels: C.
        out_channels: C'.
        w_dim: length of a style vector.
        resolution: side of the output; the layer keeps a noise image of this size.
        layer: number of the layer; layers with different numbers get different noise.
        up: factor of upsampling before the convolution.
        filter: the resampling filter, from `setup_filter`.
        conv_clamp: bound on the output, for half precision; None = no bound.
    """

    noise_const: Tensor
    filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        w_dim: int,
        resolution: int,
        layer: int,
        up: int,
        filter: Tensor,
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.layer, self.up, self.conv_clamp = layer, up, conv_clamp
        self.style = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(1))  # not a scalar: engines shard along an axis
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("filter", filter, persistent=False)

    def forward(self, x: Tensor, w: Tensor, *, noise: Noise) -> Tensor:
        """Map features (N, C, H, W) and styles w (N, w_dim) to (N, C', H up, W up)."""
        x = modulated_conv2d(
            x,
            self.weight,
            _scales(self.style, w),
            noise=self._noise(noise),
            filter=self.filter,
            up=self.up,
            padding=1,
            mirrored=self.up > 1,  # so that the transposed convolution takes the weight as it is stored
        )
        return bias_act(x, self.bias, activation="lrelu", clamp=self.conv_clamp)

    def _noise(self, noise: Noise) -> Tensor | None:
        """Return the noise to add, (H, W) if stored, (N, 1, H, W) from seeds, or None."""
        if isinstance(noise, Tensor):
            side = self.noise_const.shape[0]
            return seeded_normal(noise, self.layer, side, side).to(self.noise_strength.dtype) * self.noise_strength
        return None if noise == "none" else self.noise_const * self.noise_strength


class ToImage(nn.Module):
    """A modulated 1x1 convolution to colours, without demodulation.

    Args:
        in_channels: C.
        channels: channels of the image.
        w_dim: length of a style vector.
        conv_clamp: bound on the output, for half precision; None = no bound.
    """

    def __init__(self, in_channels: int, channels: int, *, w_dim: int, conv_clamp: float | None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.style = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = 1.0 / math.sqrt(in_channels)  # equalised here, because nothing demodulates this weight

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map features (N, C, H, W) and styles w (N, w_dim) to colours (N, channels, H, W)."""
        x = modulated_conv2d(x, self.weight, _scales(self.style, w) * self.scale, demodulate=False)
        return bias_act(x, self.bias, clamp=self.conv_clamp)


class SynthesisBlock(nn.Module):
    """The layers at one resolution; all but the first block double it.

    Args:
        in_channels: 0 for the first block, which starts from a learned constant.
        out_channels: C', the outputs of every layer in the block.
        channels: channels of the image.
        w_dim: length of a style vector.
        resolution: side of the block's output.
        first_layer: number of the block's first layer, among the layers that take a style.
        architecture: see `Architecture`.
        colours: whether the block makes an image.
        filter: the resampling filter, from `setup_filter`.
        conv_clamp: bound on the layers' outputs; None = no bound.
        half_precision: whether the block runs under autocast.
    """

    filter: Tensor
    conv0: StyledConv2d | None
    conv1: StyledConv2d
    shortcut: ResampledConv2d | None
    to_image: ToImage | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int,
        w_dim: int,
        resolution: int,
        first_layer: int,
        architecture: Architecture,
        colours: bool,
        filter: Tensor,
        conv_clamp: float | None,
        half_precision: bool,
    ) -> None:
        super().__init__()
        self.first_layer, self.half_precision = first_layer, half_precision
        self.register_buffer("filter", filter, persistent=False)
        self.const = None if in_channels else nn.Parameter(torch.randn(out_channels, resolution, resolution))
        options: dict[str, Any] = {"w_dim": w_dim, "conv_clamp": conv_clamp}
        styled: dict[str, Any] = {"resolution": resolution, "filter": filter, **options}
        self.conv0 = self.shortcut = self.to_image = None
        if in_channels:
            self.conv0 = StyledConv2d(in_channels, out_channels, layer=first_layer, up=2, **styled)
        self.conv1 = StyledConv2d(out_channels, out_channels, layer=first_layer + bool(in_channels), up=1, **styled)
        if in_channels and architecture == "resnet":
            self.shortcut = ResampledConv2d(in_channels, out_channels, 1, bias=False, up=2, filter=filter)
        if colours:
            self.to_image = ToImage(out_channels, channels, **options)

    @property
    def num_layers(self) -> int:
        """The number of convolutions with a style of their own; the colours use the style of the next block's first."""
        return 1 if self.conv0 is None else 2

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, *, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """Return features (N, C', H, W), and the image (N, channels, H, W) or None if there is none yet.

        Args:
            x: features (N, C, H/2, W/2) of the block before; None for the first block.
            image: (N, channels, H/2, W/2) of the block before, or None.
            ws: the styles of all layers, (N, num_ws, w_dim).
            noise: see `Noise`.
        """
        with follows_autocast(ws, allowed=self.half_precision):
            *layers, last = ws[:, self.first_layer : self.first_layer + self.num_layers + 1].unbind(1)
            x = self._features(x, layers, noise=noise)
            image = None if image is None else upsample2d(image, self.filter)
            if self.to_image is not None:
                colours = self.to_image(x, last).to(ws.dtype)  # images are summed in full precision
                image = colours if image is None else image + colours
        return x, image

    def _features(self, x: Tensor | None, ws: Sequence[Tensor], *, noise: Noise) -> Tensor:
        """Return features (N, C', H, W) for one style (N, w_dim) per convolution."""
        if self.conv0 is None or x is None:
            assert self.const is not None
            return self.conv1(self.const.expand(len(ws[0]), -1, -1, -1), ws[0], noise=noise)
        y = self.conv1(self.conv0(x, ws[0], noise=noise), ws[1], noise=noise)
        if self.shortcut is None:
            return y
        return (y + self.shortcut(x)) * math.sqrt(0.5)  # keeps the variance of its summands


class Synthesis(nn.Module):
    """The synthesis network, from styles (N, num_ws, w_dim) to images (N, channels, resolution, resolution).

    Args:
        widths: channels of the feature map by its side: 4, 8, ..., resolution.
        channels: channels of the image.
        w_dim: length of a style vector.
        architecture: see `Architecture`.
        resample_filter: taps of the resampling filter.
        conv_clamp: bound on the layers' outputs; None = no bound.
        num_half_precision: number of finest resolutions that run under autocast.

    Attributes:
        num_ws: number of styles of an image: one per layer, and one for the finest colours.
    """

    def __init__(
        self,
        *,
        widths: dict[int, int],
        channels: int,
        w_dim: int,
        architecture: Architecture,
        resample_filter: Sequence[float],
        conv_clamp: float | None,
        num_half_precision: int,
    ) -> None:
        super().__init__()
        sides = list(widths)
        blocks: dict[str, SynthesisBlock] = {}
        layers = 0
        for index, side in enumerate(sides):
            block = blocks[str(side)] = SynthesisBlock(
                widths[sides[index - 1]] if index else 0,
                widths[side],
                channels=channels,
                w_dim=w_dim,
                resolution=side,
                first_layer=layers,
                architecture=architecture,
                colours=architecture == "skip" or side == sides[-1],
                filter=setup_filter(resample_filter),
                conv_clamp=conv_clamp,
                half_precision=len(sides) - index <= num_half_precision,
            )
            layers += block.num_layers
        self.blocks = nn.ModuleDict(blocks)
        self.num_ws = layers + 1

    def forward(self, ws: Tensor, *, noise: Noise = "const") -> Tensor:
        """Return images (N, channels, resolution, resolution) for styles (N, num_ws, w_dim) and noise, see `Noise`."""
        if isinstance(noise, str) and noise == "random":
            noise = random_seeds(len(ws), device=ws.device)
        x = image = None
        for block in self.blocks.values():
            x, image = block(x, image, ws, noise=noise)
        assert image is not None
        return image


def _scales(layer: EqualizedLinear, w: Tensor) -> Tensor:
    """Return a layer's scales (N, C) for styles w (N, w_dim), computed outside autocast."""
    with full_precision(w):
        return layer(w)
