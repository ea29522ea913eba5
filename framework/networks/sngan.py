"""SNGAN: residual networks, spectral norm in the discriminator only (Miyato et al., arXiv:1802.05957, appendix B.4).

These are SAGAN's networks without attention and with the paper's defaults; see `sagan.py` for every option. With
classes, batch norm conditions the generator and projection the discriminator (arXiv:1802.05637). The networks at 32 px
are the paper's CIFAR-10 pair, at 48 px its STL-10 pair, at 128 px its ImageNet pair; those at 64 px are mimicry's.
Mimicry upsamples bilinearly and its weights need `rectified_shortcut`; StudioGAN's discriminators at 64 and 128 px are
`sagan.Discriminator`.

WGAN-GP's CIFAR-10 pair (arXiv:1704.00028: 128 channels everywhere, batch norm in the generator, no normalisation in
the critic) is `Generator(resolution=32, width=32)` with `Discriminator(resolution=32, spectral=False, pooling="mean")`;
with `class_head=True` it is the critic of its class-conditional model.
"""

from __future__ import annotations

from typing import Annotated

from framework.networks import sagan
from framework.networks.blocks.init import Init
from framework.networks.blocks.norm import Statistics
from framework.networks.blocks.residual import Upsampling
from framework.recipe.checks import ADDED_LATER


class Generator(sagan.Generator):
    """SNGAN's generator: images (N, channels, resolution, resolution) in [-1, 1] from latents and labels.

    Its arguments are those of `sagan.Generator`.

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
        statistics: Statistics = "global",
        batch_norm_eps: float = 1e-5,
        batch_norm_momentum: float = 0.1,
        upsampling: Upsampling = "nearest",
        init: Init = "xavier",
    ) -> None:
        super().__init__(
            resolution=resolution,
            channels=channels,
            classes=classes,
            z_dim=z_dim,
            width=width,
            spectral=False,
            statistics=statistics,
            batch_norm_eps=batch_norm_eps,
            batch_norm_momentum=batch_norm_momentum,
            upsampling=upsampling,
            init=init,
        )


class Discriminator(sagan.Discriminator):
    """SNGAN's discriminator: logits (N,) from images (N, channels, resolution, resolution) and labels.

    Its arguments are those of `sagan.Discriminator`; `spectral=False` and, for WGAN-GP, `pooling="mean"` make mimicry's
    unnormalised critics.

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
        pooling: sagan.Pooling = "sum",
        spectral: bool = True,
        head_spectral: bool = True,
        rectified_shortcut: bool = False,
        init: Init = "xavier",
        class_head: Annotated[bool, ADDED_LATER] = False,
    ) -> None:
        super().__init__(
            resolution=resolution,
            channels=channels,
            classes=classes,
            width=width,
            coarsest=2 if resolution == 64 else None,  # five halvings, where SAGAN's has four
            hidden="input",
            pooling=pooling,
            spectral=spectral,
            head_spectral=head_spectral,
            rectified_shortcut=rectified_shortcut,
            init=init,
            class_head=class_head,
        )
