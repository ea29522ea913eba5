"""StyleGAN: a generator steered by styles at every layer (Karras et al., arXiv:1812.04958).

The network is configuration F of table 1: a mapping network to styles w, AdaIN and per-pixel noise after every
convolution, a learned constant as input, and mixing regularisation. Growing, feature maps and discriminator are
ProGAN's, with bilinear resampling in both networks. The mapping network embeds labels; the discriminator uses them as
in `networks.progan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from framework.networks import progan
from framework.networks.blocks.adain import AdaIN
from framework.networks.blocks.equalized import EqualizedConv2d
from framework.networks.blocks.growing import COARSEST, Growing, doubled, feature_widths, halved
from framework.networks.blocks.mapping import Mapping, Mix
from framework.networks.blocks.noise import Noise, random_seeds, seeded_normal
from framework.networks.blocks.resample import filter2d, setup_filter
from framework.networks.draw import Draw
from framework.networks.progan import HE, rectified
from framework.networks.sizes import check_sizes
from framework.utils.errors import FrameworkError


class Blur(nn.Module):
    """A low-pass layer with the binomial filter [1, 2, 1] in both directions (appendix C)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", setup_filter([1.0, 2.0, 1.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Filter (N, C, H, W); same shape."""
        return filter2d(x, self.kernel)


class Style(nn.Module):
    """The layers that follow every convolution: noise, bias, leaky ReLU, AdaIN (figure 1b).

    Args:
        channels: C.
        w_dim: length of a style vector.
        side: side of the feature map, and of the stored noise image.
        layer: number of the layer; layers with different numbers get different noise.
    """

    noise_const: Tensor

    def __init__(self, channels: int, *, w_dim: int, side: int, layer: int) -> None:
        super().__init__()
        self.side, self.layer = side, layer
        self.noise_strength = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.adain = AdaIN(channels, w_dim=w_dim)
        self.register_buffer("noise_const", torch.randn(side, side))

    def forward(self, x: Tensor, w: Tensor, noise: Noise) -> Tensor:
        """Apply noise, bias, activation and styles w (N, w_dim) to x (N, C, side, side); same shape."""
        added = self.bias[:, None, None]
        if isinstance(noise, Tensor):
            pixels = seeded_normal(noise, self.layer, self.side, self.side)
            added = added + self.noise_strength[:, None, None] * pixels
        elif noise == "const":
            added = added + self.noise_strength[:, None, None] * self.noise_const
        return self.adain(rectified(x + added.to(x.dtype)), w)


class SynthesisStart(nn.Module):
    """The learned 4x4 constant and the first convolution, each followed by a style.

    Args:
        width: number of channels.
        w_dim: length of a style vector.
    """

    def __init__(self, width: int, *, w_dim: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.ones(width, COARSEST, COARSEST))
        self.style1 = Style(width, w_dim=w_dim, side=COARSEST, layer=0)
        self.conv2 = EqualizedConv2d(width, width, 3, bias=False, gain=HE)
        self.style2 = Style(width, w_dim=w_dim, side=COARSEST, layer=1)

    def forward(self, ws: Tensor, noise: Noise) -> Tensor:
        """Return the first feature map (N, width, 4, 4) for styles (N, 2, w_dim)."""
        x = self.style1(self.constant.expand(len(ws), -1, -1, -1), ws[:, 0], noise)
        return self.style2(self.conv2(x), ws[:, 1], noise)


class SynthesisBlock(nn.Module):
    """The generator's block: upsampling by 2, then two convolutions, each followed by a style.

    Args:
        in_channels: C.
        out_channels: C'.
        w_dim: length of a style vector.
        side: side of the output.
        layer: number of the first of its two layers.
    """

    def __init__(self, in_channels: int, out_channels: int, *, w_dim: int, side: int, layer: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, bias=False, gain=HE)
        self.blur = Blur()
        self.style1 = Style(out_channels, w_dim=w_dim, side=side, layer=layer)
        self.conv2 = EqualizedConv2d(out_channels, out_channels, 3, bias=False, gain=HE)
        self.style2 = Style(out_channels, w_dim=w_dim, side=side, layer=layer + 1)

    def forward(self, x: Tensor, ws: Tensor, noise: Noise) -> Tensor:
        """Map (N, C, side/2, side/2) and styles (N, 2, w_dim) to (N, C', side, side)."""
        # Replicated pixels, low-passed, are bilinear upsampling; the filter commutes with the convolution.
        x = self.style1(self.blur(self.conv1(doubled(x))), ws[:, 0], noise)
        return self.style2(self.conv2(x), ws[:, 1], noise)


class Generator(Growing):
    """StyleGAN's generator: images (N, channels, side, side) from latents and labels; its last layer is linear.

    Args:
        resolution: side of the fully grown images, a power of two of at least 4.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        z_dim: length of the latent.
        w_dim: length of a style vector.
        mapping_layers: fully connected layers of the mapping network.
        channel_base: a feature map of side s has `min(channel_base / s, channel_max)` channels, as in ProGAN.
        channel_max: see `channel_base`.
        widths: channels at 4, 8, ..., `resolution` px; None = those by `channel_base`.
        mixing_probability: share of training images with the styles of two latents (table 2).
        w_avg_keep: per turn, the share of the old mean style in the new one (the authors' program).

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
        w_dim: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 16_384,
        channel_max: int = 512,
        widths: Sequence[int] | None = None,
        mixing_probability: float = 0.9,
        w_avg_keep: float = 0.995,
    ) -> None:
        super().__init__(resolution=resolution)
        check_sizes(channels=channels, classes=classes, z_dim=z_dim, w_dim=w_dim)
        if not 0.0 <= mixing_probability <= 1.0:
            raise FrameworkError(f"mixing_probability={mixing_probability} must lie in [0, 1]")
        self.z_dim, self.mixing_probability = z_dim, mixing_probability
        # Latents to styles, two for each resolution.
        self.num_ws = 2 * len(self.resolutions)
        self.mapping = Mapping(
            z_dim=z_dim,
            w_dim=w_dim,
            num_ws=self.num_ws,
            classes=classes,
            num_layers=mapping_layers,
            w_avg_keep=w_avg_keep,
            normalization="joint",
        )
        # Styles to images.
        widths = feature_widths(self.resolutions, channel_base=channel_base, channel_max=channel_max, widths=widths)
        self.start = SynthesisStart(widths[0], w_dim=w_dim)
        self.blocks = nn.ModuleList(
            SynthesisBlock(widths[level - 1], widths[level], w_dim=w_dim, side=side, layer=2 * level)
            for level, side in enumerate(self.resolutions)
            if level
        )
        self.to_rgb = nn.ModuleList(EqualizedConv2d(width, channels, 1) for width in widths)

    def stochastic(self, draw: Draw) -> dict[str, Any]:
        """Return what a training forward takes besides latents and labels: noise seeds and style mixing (section 3.1).

        An image mixes with probability `mixing_probability`; its crossover is uniform over the layers in use, of which
        each latent gets at least one.

        Args:
            draw: random numbers for N images.

        Returns:
            `mix`: latents (N, z_dim) and crossovers (N,) int64, see `Mix`; `noise`: seeds (N,) int64.
        """
        layers = 2 * (1 + self.resolutions.index(self.resolution))
        mixes = draw.uniform("style_mixing") < self.mixing_probability
        crossover = 1 + draw.integers("style_crossover", layers - 1)
        return {
            "mix": (draw.normal("style_latents", self.z_dim), torch.where(mixes, crossover, self.num_ws)),
            "noise": draw.integers("noise_seeds", 1 << 62),
        }

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        mix: Mix | None = None,
        noise: Noise = "const",
        alpha: float | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        """Return images (N, channels, resolution, resolution) in about [-1, 1].

        Args:
            z: latents (N, z_dim), standard normal.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.
            psi: truncation towards the mean style; 1 = none.
            cutoff: number of first layers that are truncated; None = all. The paper's figures: psi 0.7, cutoff 8.
            mix: a second latent (N, z_dim) and, per image, the first layer (N,) that takes its style.
            noise: see `Noise`.
            alpha: share of the finest layers; None = see `Growing.path`.
            resolution: side of the images; None = the current one.

        Raises:
            FrameworkError: labels are missing or have the wrong shape, the network has no such path, or `noise` is
                unknown.
        """
        ws = self.mapping(z, labels, mix=mix, psi=psi, cutoff=cutoff)
        return self.synthesis(ws, noise=noise, alpha=alpha, resolution=resolution)

    def synthesis(
        self,
        ws: Tensor,
        *,
        noise: Noise = "const",
        alpha: float | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        """Return images (N, channels, resolution, resolution) for styles.

        Args:
            ws: (N, num_ws, w_dim), two styles per level; those of levels beyond the path are ignored.
            noise: see `Noise`.
            alpha: share of the finest layers; None = see `Growing.path`.
            resolution: side of the images; None = the current one.

        Raises:
            FrameworkError: the network has no such path, or `noise` is unknown.
        """
        if isinstance(noise, str) and noise not in ("none", "const", "random"):
            raise FrameworkError(f"noise={noise!r} must be 'none', 'const', 'random' or seeds (N,)")
        if isinstance(noise, str) and noise == "random":
            noise = random_seeds(len(ws), device=ws.device)
        # Feature maps of the two finest levels of the path.
        level, alpha = self.path(resolution=resolution, alpha=alpha)
        x = coarse = self.start(ws[:, :2], noise)
        for index, block in enumerate(list(self.blocks)[:level], start=1):
            x, coarse = block(x, ws[:, 2 * index : 2 * index + 2], noise), x
        # Their images, blended by alpha.
        images = self.to_rgb[level](x)
        if alpha == 1.0:
            return images
        return torch.lerp(doubled(self.to_rgb[level - 1](coarse)), images, alpha)


class DiscriminatorBlock(nn.Module):
    """The discriminator's block: two 3x3 convolutions, of which the second downsamples bilinearly by 2.

    Args:
        in_channels: C.
        out_channels: C'.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, in_channels, 3, gain=HE)
        self.blur = Blur()
        self.conv2 = EqualizedConv2d(in_channels, out_channels, 3, gain=HE)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/2, W/2)."""
        x = self.blur(rectified(self.conv1(x)))
        return rectified(halved(self.conv2(x)))


class Discriminator(progan.Discriminator):
    """ProGAN's discriminator with bilinear downsampling (configuration B); the arguments are the same."""

    def _block(self, in_channels: int, out_channels: int) -> nn.Module:
        return DiscriminatorBlock(in_channels, out_channels)
