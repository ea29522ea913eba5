"""Progressive growing is a function of the clock (Karras et al. 2018, arXiv:1710.10196, section 2).

A recipe lists phases by resolution; each first fades its new layers in and then goes on training them. The phases
become segments of the clock. Everything that depends on growth (resolution, alpha, batch size, learning rate) is read
off the segment in which the clock is, so resuming needs nothing but the clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from framework.recipe.checks import check_fields
from framework.utils.errors import FrameworkError


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FrameworkError(message)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Training at one resolution.

    Raises:
        FrameworkError: a number that cannot work; names the phase and the field.
    """

    resolution: int
    """Side of the images in pixels."""
    stable_images: int
    """Images seen after the new layers have faded in."""
    fade_images: int = 0
    """Images over which the new layers' share alpha rises from 0 to 1, before the stable part."""
    batch_size: int | None = None
    """Global batch; None: the recipe's."""
    lr_factor: float = 1.0
    """Factor on both players' learning rates."""

    def __post_init__(self) -> None:
        check_fields(self)
        name = f"Phase {self.resolution}px"
        _require(self.resolution > 0, f"Phase: resolution={self.resolution} must be positive")
        _require(self.stable_images >= 0, f"{name}: stable_images={self.stable_images} must not be negative")
        _require(self.fade_images >= 0, f"{name}: fade_images={self.fade_images} must not be negative")
        _require(self.stable_images + self.fade_images > 0, f"{name}: has no images")
        _require(self.batch_size is None or self.batch_size > 0, f"{name}: batch_size={self.batch_size}")
        _require(self.lr_factor > 0, f"{name}: lr_factor={self.lr_factor} must be positive")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of the clock during which the players' shape stays the same: one half of a phase, or the whole run.

    Attributes:
        resolution: side of the images in pixels.
        start: the clock at its first step, images seen.
        batch_size: global batch.
        lr_factor: factor on both players' learning rates.
        fading: whether new layers fade in during it.
    """

    resolution: int
    start: int
    end: int
    """The clock at its end; the last segment goes on for ever."""
    batch_size: int
    lr_factor: float = 1.0
    fading: bool = False
    grown: bool = True
    """Whether the finest layers are in use, as in every recipe that does not grow."""

    def alpha(self, images_seen: int) -> float:
        """Return the share of the newest layers after `images_seen` images, from 0 to 1."""
        if not self.fading:
            return 1.0
        return min(1.0, max(0.0, (images_seen - self.start) / (self.end - self.start)))

    def __str__(self) -> str:
        return f"{self.resolution}x{self.resolution} {'fading in' if self.fading else 'stable'}"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Phases from coarse to fine. The networks must have a method `grow(resolution=, alpha=)`.

    Real images are read at the phase's resolution and, while it fades in, mixed with their own half-size version by the
    same alpha, as the paper does.

    Raises:
        FrameworkError: no phases, a first phase that fades in, or resolutions that do not double.
    """

    phases: tuple[Phase, ...]
    reset_optimizer: bool = True
    """Whether optimisers' moments are reset when new layers begin and end to fade in, as in the authors' program."""

    def __post_init__(self) -> None:
        check_fields(self)
        _require(len(self.phases) > 0, "growth.phases: give at least one Phase")
        _require(self.phases[0].fade_images == 0, "growth.phases.0: the first phase has nothing to fade in from")
        for coarse, fine in pairwise(self.phases):
            _require(
                fine.resolution == 2 * coarse.resolution,
                f"growth.phases: {fine.resolution} px follows {coarse.resolution} px; phases double the resolution",
            )

    @property
    def images(self) -> int:
        """Number of images in all phases."""
        return sum(phase.fade_images + phase.stable_images for phase in self.phases)

    def segments(self, *, batch_size: int, critic_steps: int = 1) -> tuple[Segment, ...]:
        """Return the segments of the clock. A segment ends after the first whole step that has seen its images.

        Args:
            batch_size: global batch of phases that do not name one.
            critic_steps: number of discriminator turns per step, each of which consumes a batch.
        """
        segments: list[Segment] = []
        for phase in self.phases:
            batch = phase.batch_size or batch_size
            for fading, images in ((True, phase.fade_images), (False, phase.stable_images)):
                if images == 0:
                    continue
                start = segments[-1].end if segments else 0
                step = batch * critic_steps
                segments.append(
                    Segment(
                        resolution=phase.resolution,
                        start=start,
                        end=start + -(-images // step) * step,
                        batch_size=batch,
                        lr_factor=phase.lr_factor,
                        fading=fading,
                        grown=phase is self.phases[-1],
                    )
                )
        return tuple(segments)


def segment_at(segments: tuple[Segment, ...], images_seen: int) -> Segment:
    """Return the segment in which the step after `images_seen` images lies; the last one has no end."""
    return next((segment for segment in segments if images_seen < segment.end), segments[-1])


def dearest(segments: tuple[Segment, ...]) -> Iterator[Segment]:
    """Yield one segment per resolution: the fade where there is one, because it computes both paths."""
    for segment in segments:
        if segment.fading or not any(s.fading and s.resolution == segment.resolution for s in segments):
            yield segment


def remaining(segments: tuple[Segment, ...], *, start: int, end: int) -> Iterator[tuple[Segment, int]]:
    """Yield the segments to be trained from `start` to `end` on the clock, each with its end in this run."""
    for segment in segments:
        last = segment is segments[-1]
        stop = end if last else min(segment.end, end)
        if segment.start < end and start < stop:
            yield segment, stop


def segments_from(recipe: Mapping[str, Any]) -> tuple[Segment, ...]:
    """Return the segments of a described recipe (the JSON in a checkpoint); empty when it does not grow."""
    growth = recipe.get("growth")
    if growth is None:
        return ()
    fields = [{k: v for k, v in phase.items() if k != "type"} for phase in growth["phases"]]
    phases = tuple(Phase(**phase) for phase in fields)
    return Growth(phases=phases).segments(
        batch_size=recipe["batch_size"], critic_steps=recipe["game"].get("critic_steps", 1)
    )
