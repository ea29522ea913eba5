"""Schedules are functions of the clock (images seen), so that resuming needs nothing but the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from framework.recipe.checks import check_fields
from framework.utils.errors import FrameworkError
from framework.utils.ranges import Range


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FrameworkError(message)


class Schedule(Protocol):
    """A number as a function of the clock: a factor on a learning rate, or a constant that changes during a run."""

    def at(self, images_seen: int) -> float:
        """Return the number after `images_seen` images."""
        ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The learning rate stays as it is."""

    def at(self, images_seen: int) -> float:
        """Return 1, at any time."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A factor that goes from 1 to `end` along a line between `start_images` and `end_images`, constant outside.

    Raises:
        FrameworkError: the start does not lie before the end.
    """

    end_images: int
    start_images: int = 0
    end: Annotated[float, Range(least=0)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        _require(
            0 <= self.start_images < self.end_images,
            f"Linear: start_images={self.start_images} must lie before end_images={self.end_images}",
        )

    def at(self, images_seen: int) -> float:
        """Return the number after `images_seen` images."""
        progress = (images_seen - self.start_images) / (self.end_images - self.start_images)
        return 1.0 + (self.end - 1.0) * min(1.0, max(0.0, progress))


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """A factor that goes from 1 to `end` along half a cosine over `end_images` images, constant afterwards.

    Raises:
        FrameworkError: `end_images` is not positive.
    """

    end_images: int
    end: Annotated[float, Range(least=0)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        _require(self.end_images > 0, f"Cosine: end_images={self.end_images} must be positive")

    def at(self, images_seen: int) -> float:
        """Return the number after `images_seen` images."""
        progress = min(1.0, max(0.0, images_seen / self.end_images))
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True)
class Stepwise:
    """A number that begins at 1, is multiplied by `factor` every `every_images` images, and never falls below `least`.

    Top-k training lets the share of samples fall like this, once an epoch (arXiv:2002.06224, section 3).

    Raises:
        FrameworkError: a number is out of range.
    """

    factor: Annotated[float, Range(above=0, most=1)]
    every_images: Annotated[int, Range(least=1)]
    least: Annotated[float, Range(least=0, most=1)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def at(self, images_seen: int) -> float:
        """Return the number after `images_seen` images."""
        return max(self.least, self.factor ** (images_seen // self.every_images))


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A number that goes from `start` to `end` over `images` images, along half a cosine or a line, then constant.

    Raises:
        FrameworkError: `images` is not positive.
    """

    start: float
    end: float
    images: int
    shape: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        check_fields(self)
        _require(self.images > 0, f"Ramp: images={self.images} must be positive")

    def at(self, images_seen: int) -> float:
        """Return the number after `images_seen` images."""
        progress = min(1.0, max(0.0, images_seen / self.images))
        if self.shape == "cosine":
            progress = 0.5 * (1.0 - math.cos(math.pi * progress))
        return self.start + (self.end - self.start) * progress


def value_at(value: float | Schedule, images_seen: int) -> float:
    """Return a constant, or a schedule's value after `images_seen` images."""
    return float(value) if isinstance(value, int | float) else value.at(images_seen)


def values_of(value: float | Schedule) -> tuple[float, ...]:
    """Return the extremes a value takes, for checks: the constant, or where a schedule starts and where it ends."""
    return (float(value),) if isinstance(value, int | float) else (value.at(0), value.at(1 << 62))
