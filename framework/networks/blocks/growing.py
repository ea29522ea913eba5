"""Networks that grow: all layers exist from the start, and a path through them is chosen (ProGAN, arXiv:1710.10196).

`grow(resolution=, alpha=)` sets plain attributes, no buffers: the game calls it at every step with functions of the
clock, so there is nothing to save. Layers finer than the path do not enter the graph; they get no gradient, which every
optimiser of this framework reads as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from framework.utils.errors import FrameworkError

COARSEST = 4
"""Side of the coarsest images and feature maps."""


class Growing(nn.Module):
    """The base of generators and discriminators whose images double in size during training.

    Args:
        resolution: the final side of the images, a power of two of at least 4. The network starts fully grown.

    Raises:
        FrameworkError: the resolution is not a power of two of at least 4.
    """

    resolutions: tuple[int, ...]
    """Sides of the images, 4, 8, ... up to the final one."""
    resolution: int
    """The current side of the images."""
    alpha: float
    """Share of the newest layers in the result, from 0 to 1 = fully grown (the paper's alpha, figure 2)."""

    def __init__(self, *, resolution: int) -> None:
        super().__init__()
        if resolution < COARSEST or resolution & (resolution - 1):
            raise FrameworkError(
                f"resolution={resolution} must be a power of two of at least {COARSEST}: 4, 8, 16, 32, ..."
            )
        self.resolutions = tuple(1 << exponent for exponent in range(2, resolution.bit_length()))
        self.grow(resolution=resolution)

    def grow(self, *, resolution: int, alpha: float = 1.0) -> None:
        """Choose the path of the following calls.

        Args:
            resolution: side of the images, one of `resolutions`.
            alpha: share of the layers of this resolution, from 0 (the generator upsamples images of half the side, the
                discriminator sees images halved to it) to 1. It has no effect at the coarsest resolution.

        Raises:
            FrameworkError: the network does not have this resolution, or alpha lies outside [0, 1].
        """
        self._level(resolution, alpha)
        self.resolution, self.alpha = resolution, alpha

    def path(self, *, resolution: int | None, alpha: float | None) -> tuple[int, float]:
        """Return the index of the finest level in use, and its share.

        Args:
            resolution: side of the images; None = the current one.
            alpha: share of the finest layers; None = the current one at the current resolution, 1 at any other.

        Raises:
            FrameworkError: the network does not have this resolution, or alpha lies outside [0, 1].
        """
        resolution = self.resolution if resolution is None else resolution
        if alpha is None:
            alpha = self.alpha if resolution == self.resolution else 1.0
        level = self._level(resolution, alpha)
        return level, alpha if level else 1.0

    def _level(self, resolution: int, alpha: float) -> int:
        """Return the index of a resolution, or raise a FrameworkError if the network has no such path."""
        if resolution not in self.resolutions:
            raise FrameworkError(f"resolution={resolution} must be one of: {', '.join(map(str, self.resolutions))}")
        if not 0.0 <= alpha <= 1.0:
            raise FrameworkError(f"alpha={alpha} must lie in [0, 1]; 1 = fully grown")
        return self.resolutions.index(resolution)


def feature_widths(
    resolutions: Sequence[int], *, channel_base: int, channel_max: int, widths: Sequence[int] | None = None
) -> list[int]:
    """Return the channels at each resolution: `min(channel_base / resolution, channel_max)`, or `widths` if given.

    ProGAN's table 2 (also StyleGAN's) is base 16384 and maximum 512, that is 512 up to 32 px and 16 at 1024 px; its
    authors write the same as 8192 / 2^stage with stage 1 at 4 px.

    Raises:
        FrameworkError: a resolution is left without channels, or `widths` has another length than `resolutions`.
    """
    if widths is None:
        widths = [min(channel_base // resolution, channel_max) for resolution in resolutions]
    if len(widths) != len(resolutions):
        raise FrameworkError(
            f"widths={tuple(widths)} must have {len(resolutions)} entries, for {tuple(resolutions)} px"
        )
    if min(widths) < 1:
        raise FrameworkError(
            f"channel_base={channel_base}, channel_max={channel_max} or widths leave no channels: {tuple(widths)}"
        )
    return list(widths)


def doubled(images: Tensor) -> Tensor:
    """Upsample (N, C, H, W) to (N, C, 2H, 2W) by nearest neighbours."""
    return functional.interpolate(images, scale_factor=2.0, mode="nearest")


def halved(images: Tensor) -> Tensor:
    """Downsample (N, C, H, W) to (N, C, H/2, W/2) by average pooling."""
    return functional.avg_pool2d(images, 2)
