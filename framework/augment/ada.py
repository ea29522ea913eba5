"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv:2006.06676).

Each transform is applied to each image with probability p, times its multiplier. p grows while the discriminator
overfits, which shows in how sure it is of real images, and falls while it does not.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from framework.augment import color, corruptions, geometry
from framework.augment.chance import Chance
from framework.augment.corruptions import FILTER_REACH, add_noise, cut_out, filter_octaves
from framework.networks.draw import Draw, Request
from framework.recipe.schedules import Ramp, values_of
from framework.utils.errors import FrameworkError

Preset = Literal["blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc"]

_BLIT, _GEOM = geometry.TRANSFORMS[:3], geometry.TRANSFORMS[3:]
_BGC = (*geometry.TRANSFORMS, *color.TRANSFORMS)
_PRESETS: dict[str, tuple[str, ...]] = {
    "blit": _BLIT,
    "geom": _GEOM,
    "color": color.TRANSFORMS,
    "filter": ("image_filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
    "bg": geometry.TRANSFORMS,
    "bgc": _BGC,
    "bgcf": (*_BGC, "image_filter"),
    "bgcfn": (*_BGC, "image_filter", "noise"),
    "bgcfnc": (*_BGC, "image_filter", "noise", "cutout"),
}
"""The sets that the paper compares (figure 4); `bgc` is the one it recommends."""


@dataclass(frozen=True, kw_only=True)
class Ada:
    """Applies all transforms of the paper's appendix B, with the controller of its section 3.

    The strength is p. It may pass 1, where every transform applies to every image, because the paper clamps it from
    below only. Images are grey or RGB in [-1, 1].

    Raises:
        FrameworkError: an argument that cannot work; names it and its valid values.
    """

    preset: Preset = "bgc"
    """The transforms that are on; multipliers below change single ones (None: 1 if in the preset, else 0)."""
    start: float | Ramp = 0.0
    """p before the first adjustment. With `every=None`, p itself: a constant, or a ramp over images seen."""
    target: float = 0.6
    """Mean of sign(D(real) - t) above which p grows (r_t of the paper), with t the undecided logit of the loss."""
    images: int = 500_000
    """Number of real images in which p goes from 0 to 1."""
    every: int | None = 4
    """Number of steps from one adjustment to the next; None: p is `start`, whatever the discriminator does."""

    x_flip: float | None = None
    rotate90: float | None = None
    integer_translation: float | None = None
    isotropic_scale: float | None = None
    rotation: float | None = None
    anisotropic_scale: float | None = None
    fractional_translation: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    luma_flip: float | None = None
    hue: float | None = None
    saturation: float | None = None
    image_filter: float | None = None
    noise: float | None = None
    cutout: float | None = None

    def __post_init__(self) -> None:
        if self.preset not in _PRESETS:
            raise FrameworkError(f"Ada: preset={self.preset!r} must be one of: {', '.join(get_args(Preset))}")
        if not -1 <= self.target <= 1:
            raise FrameworkError(f"Ada: target={self.target} is a mean sign, from -1 to 1")
        if self.images < 1:
            raise FrameworkError(f"Ada: images={self.images} must be at least 1")
        if self.every is not None and self.every < 1:
            raise FrameworkError(f"Ada: every={self.every} must be a number of steps from 1, or None")
        if isinstance(self.start, Ramp) and self.every is not None:
            raise FrameworkError(f"Ada: start is a Ramp, which needs every=None, not {self.every}")
        numbers = [("start", value) for value in values_of(self.start)]
        for name, value in (*numbers, *self.multipliers.items()):
            if not (math.isfinite(value) and value >= 0):
                raise FrameworkError(f"Ada: {name}={value} must be a finite number from 0")

    @property
    def multipliers(self) -> dict[str, float]:
        """Factors on p, by transform."""
        chosen = {name: getattr(self, name) for name in _PRESETS["bgcfnc"]}
        return {name: float(name in _PRESETS[self.preset]) if m is None else m for name, m in chosen.items()}

    @property
    def requests(self) -> dict[str, Request]:
        """What all transforms draw for each image, by names that begin with theirs."""
        return geometry.DRAWS | color.DRAWS | corruptions.DRAWS

    def check(self, *, channels: int, height: int, width: int) -> None:
        """Refuse images that some transform cannot handle.

        Raises:
            FrameworkError: transforms that cannot handle images of this size; names both.
        """
        on = [name for name, multiplier in self.multipliers.items() if multiplier > 0]
        colors = [name for name in on if name in color.TRANSFORMS]
        if colors and channels not in (1, 3):
            raise FrameworkError(f"Ada: {', '.join(colors)}: images must have 1 or 3 channels, not {channels}")
        turning = [name for name in on if name in geometry.TURNING]
        if turning and height != width:
            names = ", ".join(turning)
            raise FrameworkError(f"Ada: {names}: images must be square, not {height} x {width}; or set to 0")
        smallest = FILTER_REACH + 1
        if "image_filter" in on and min(height, width) < smallest:
            raise FrameworkError(
                f"Ada: image_filter: images must have at least {smallest} x {smallest} pixels, of which it reflects "
                f"{FILTER_REACH} at each edge, not {height} x {width}; or set to 0"
            )

    def __call__(self, images: Tensor, *, strength: float, draw: Draw) -> Tensor:
        """Augment images (n, C, H, W) in [-1, 1], computed in float32 at least; see `framework.augment.Augmentation`.

        Raises:
            FrameworkError: the images have a size that it cannot augment, see `check`.
        """
        self.check(channels=images.shape[1], height=images.shape[2], width=images.shape[3])
        if strength == 0:
            return images
        chance = Chance(
            num_images=len(images),
            device=images.device,
            strength=strength,
            multipliers=self.multipliers,
            requests=self.requests,
            draw=draw,
        )
        with torch.autocast(images.device.type, enabled=False):
            x = images.to(torch.promote_types(images.dtype, torch.float32))
            for stage in (geometry.move, color.recolor, filter_octaves, add_noise, cut_out):
                x = stage(x, chance)
        return x.to(images.dtype)

    def adjusted(self, strength: float, *, sign: float, images: int) -> float:
        """Return p after one step of constant size towards the target, clamped from below at 0 (the paper's section 3).

        A sign equal to the target, or one that is not a number, changes nothing.
        """
        direction = (sign > self.target) - (sign < self.target)
        return max(strength + direction * images / self.images, 0.0)


assert {f.name for f in dataclasses.fields(Ada)} >= set(_PRESETS["bgcfnc"])
