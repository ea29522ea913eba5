"""Networks that grow: all layers exist from the start, and a path through them is chosen (ProGAN, arXiv:1710.10196).

`grow(resolution=, alpha=)` sets plain attributes, no buffers: the game calls it at every step with functions of the
clock, so that there is nothing to save. Layers finer than the path do not enter the graph; their gradient is missing,
which every optimiser of this framework reads as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from framework.errors import FrameworkError

COARSEST = 4
"""Side of the coarsest images and feature maps."""


class Growing(nn.Module):
    """Base of generators and discriminators whose images double in size during training.

    Args:
        resolution: the final side of the images, a power of two from 4. The network starts fully grown.

    Raises:
        FrameworkError: another resolution.
    """

    resolutions: tuple[int, ...]
    """Sides from 4 to the final one."""
    resolution: int
    """The side grown to."""
    alpha: float
    """Share of the finest layers in use; 1 = fully grown, as the paper counts."""

    def __init__(self, *, resolution: int) -> None:
        super().__init__()
        if resolution < COARSEST or resolution & (resolution - 1):
            raise FrameworkError(f"resolution={resolution} must be a power of two from {COARSEST}: 4, 8, 16, 32, ...")
        self.resolutions = tuple(1 << exponent for exponent in range(2, resolution.bit_length()))
        self.grow(resolution=resolution)

    def grow(self, *, resolution: int, alpha: float = 1.0) -> None:
        """Choose the path of the following calls.

        Args:
            resolution: side of the images, one of `resolutions`.
            alpha: share of the layers of this resolution, from 0 (the upsampled images of half the side; for the
                discriminator: the judgement on halved images) to 1. Irrelevant at the coarsest resolution.

        Raises:
            FrameworkError: a resolution the network does not have, or alpha outside [0, 1].
        """
        self._level(resolution, alpha)
        self.resolution, self.alpha = resolution, alpha

    def path(self, *, resolution: int | None, alpha: float | None) -> tuple[int, float]:
        """Index of the finest level and its share, as grown to unless given.

        The alpha grown to belongs to the resolution grown to: any other is fully grown.
        """
        resolution = self.resolution if resolution is None else resolution
        if alpha is None:
            alpha = self.alpha if resolution == self.resolution else 1.0
        level = self._level(resolution, alpha)
        return level, alpha if level else 1.0

    def _level(self, resolution: int, alpha: float) -> int:
        if resolution not in self.resolutions:
            raise FrameworkError(f"resolution={resolution} must be one of: {', '.join(map(str, self.resolutions))}")
        if not 0.0 <= alpha <= 1.0:
            raise FrameworkError(f"alpha={alpha} must lie in [0, 1]; 1 = fully grown")
        return self.resolutions.index(resolution)


def feature_widths(
    resolutions: Sequence[int], *, channel_base: int, channel_max: int, widths: Sequence[int] | None = None
) -> list[int]:
    """Channels at each resolution: `min(channel_base / resolution, channel_max)`, or `widths` if given.

    ProGAN's table 2 (also StyleGAN's) is base 16384 and maximum 512, that is 512 up to 32 px and 16 at 1024 px; its
    authors write the same as 8192 / 2^stage with stage 1 at 4 px.

    Raises:
        FrameworkError: no channels left, or another number of widths than of resolutions.
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
    """Nearest-neighbour upsampling by 2: (N, C, H, W) -> (N, C, 2H, 2W)."""
    return functional.interpolate(images, scale_factor=2.0, mode="nearest")


def halved(images: Tensor) -> Tensor:
    """Average pooling by 2: (N, C, H, W) -> (N, C, H/2, W/2)."""
    return functional.avg_pool2d(images, 2)
