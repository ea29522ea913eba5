"""StyleGAN2: style-based generator with weight demodulation, and its discriminator (arXiv:1912.04958).

Both have what ADA's programs add (arXiv:2006.06676): class conditioning, and mixed precision with bounded activations.
The defaults are the paper's configuration F. Images are not squashed; the data's range is [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from framework.networks.blocks.mapping import Mapping, Mix, drawn_mix
from framework.networks.blocks.noise import Noise
from framework.networks.draw import Draw
from framework.networks.stylegan2_discriminator import Discriminator
from framework.networks.stylegan2_synthesis import Architecture, Synthesis, check_architecture, feature_widths
from framework.utils.errors import FrameworkError

__all__ = ["Discriminator", "Generator"]


class Generator(nn.Module):
    """StyleGAN2's generator: images (N, channels, resolution, resolution) from latents and labels.

    Args:
        resolution: side of the square image, a power of two of at least 8.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        z_dim: length of the latent.
        w_dim: length of a style vector.
        mapping_layers: layers of the mapping network (8 in the paper, 2 in some of ADA's configurations).
        mapping_lr_multiplier: learning rate of the mapping network relative to the rest.
        architecture: `skip` (the paper's choice), `resnet` or `orig`.
        channel_base: a feature map of side s has `channel_base / s` channels, but at most `channel_max`.
        channel_max: see `channel_base`.
        style_mixing: share of training images made from two latents (arXiv:1812.04948, section 3.1).
        w_avg_keep: per turn, the share of the old mean style in the new one.
        resample_filter: taps of the resampling filter.
        conv_clamp: bound on the convolutions' outputs; 256 in the later mixed-precision programs, None in the paper.
        num_half_precision: number of finest resolutions that run under autocast (arXiv:2006.06676, appendix D).

    Attributes:
        mapping: maps (z, labels) to styles (N, num_ws, w_dim); see `Mapping`.
        synthesis: maps styles to images; see `Synthesis`.

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
        mapping_lr_multiplier: float = 0.01,
        architecture: Architecture = "skip",
        channel_base: int = 32_768,
        channel_max: int = 512,
        style_mixing: float = 0.9,
        w_avg_keep: float = 0.995,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        num_half_precision: int = 4,
    ) -> None:
        super().__init__()
        check_architecture(architecture)
        for name, value in {"z_dim": z_dim, "w_dim": w_dim, "channels": channels}.items():
            if value < 1:
                raise FrameworkError(f"{name}={value} must be at least 1")
        if not 0.0 <= style_mixing <= 1.0:
            raise FrameworkError(f"style_mixing={style_mixing} must be a share between 0 and 1")
        self.z_dim, self.classes, self.style_mixing = z_dim, classes, style_mixing
        self.synthesis = Synthesis(
            widths=feature_widths(resolution, channel_base=channel_base, channel_max=channel_max),
            channels=channels,
            w_dim=w_dim,
            architecture=architecture,
            resample_filter=resample_filter,
            conv_clamp=conv_clamp,
            num_half_precision=num_half_precision,
        )
        self.mapping = Mapping(
            z_dim=z_dim,
            w_dim=w_dim,
            num_ws=self.synthesis.num_ws,
            classes=classes,
            num_layers=mapping_layers,
            lr_multiplier=mapping_lr_multiplier,
            w_avg_keep=w_avg_keep,
        )

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        *,
        noise: Noise = "const",
        mix: Mix | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
    ) -> Tensor:
        """Return images (N, channels, resolution, resolution) in about [-1, 1].

        Args:
            z: latents (N, z_dim), standard normal.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.
            noise: per-pixel noise: `none`, `const` (stored), `random` (new), or seeds (N,) int64; see `Noise`.
            mix: style mixing; see `Mix`.
            psi: truncation of styles towards their mean; 1 = none.
            cutoff: number of first layers whose styles are truncated; None = all.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        return self.synthesis(self.mapping(z, labels, mix=mix, psi=psi, cutoff=cutoff), noise=noise)

    def stochastic(self, draw: Draw) -> dict[str, Any]:
        """Return what a training forward takes besides latents and labels.

        Args:
            draw: random numbers for N images.

        Returns:
            `noise`: seeds (N,) int64; unless `style_mixing` is 0, `mix`: see `Mix`.
        """
        inputs: dict[str, Any] = {"noise": draw.integers("noise", 1 << 62)}
        if self.style_mixing > 0:
            inputs["mix"] = drawn_mix(draw, z_dim=self.z_dim, num_ws=self.synthesis.num_ws, share=self.style_mixing)
        return inputs
