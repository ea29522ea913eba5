"""Points along curves in the plane: the Swiss roll and two moons, computed like the mixtures of `computed`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from framework.data.computed import Computed, normal_pairs
from framework.data.fields import Field, Label
from framework.data.plan import row_draws
from framework.data.points import Vector
from framework.utils.ranges import Range, check_numbers


@dataclass(frozen=True, kw_only=True)
class SwissRoll(Computed):
    """Points along a spiral: (t cos t, t sin t) with t uniform in [1.5 pi, 4.5 pi), with normal noise, over `divisor`.

    It is the roll of scikit-learn seen from its end, in the scale of WGAN-GP's toy problems (Gulrajani et al.,
    arXiv:1704.00028). A sample has the field `point`, two numbers.

    Raises:
        FrameworkError: a number that is out of range.
    """

    noise: Annotated[float, Range(least=0)] = 0.25
    """Standard deviation of the noise in every direction, before the division."""
    divisor: Annotated[float, Range(above=0)] = 7.5
    """The number by which all is divided, so that coordinates are about as large as 1; the longest radius is 14.1."""

    def __post_init__(self) -> None:
        check_numbers(self)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a sample."""
        return (Vector("point", 2),)

    def rows(self, positions: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
        """Return `point`, float32 (n, 2)."""
        draws = row_draws(seed, positions, 3)
        turn = 1.5 * math.pi * (1 + 2 * draws[:, 0])
        roll = turn[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        return {"point": ((roll + self.noise * normal_pairs(draws[:, 1:])) / self.divisor).astype(np.float32)}


@dataclass(frozen=True, kw_only=True)
class TwoMoons(Computed):
    """Points along two half circles of radius 1 that reach into each other, with normal noise.

    They are scikit-learn's: (cos a, sin a) and (1 - cos a, 0.5 - sin a) with a uniform in [0, pi), each with
    probability 1/2. A sample has the fields `point`, two numbers, and, if asked for, `label`, the number of its moon.

    Raises:
        FrameworkError: a number that is out of range.
    """

    noise: Annotated[float, Range(least=0)] = 0.05
    """Standard deviation of the noise in every direction."""
    labelled: bool = False
    """Whether a sample has its moon as a label."""

    def __post_init__(self) -> None:
        check_numbers(self)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a sample."""
        point = Vector("point", 2)
        return (point, Label("label", 2)) if self.labelled else (point,)

    def rows(self, positions: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
        """Return `point`, float32 (n, 2), and with labels `label`, int64 (n,)."""
        draws = row_draws(seed, positions, 4)
        moon, angle = (2 * draws[:, 0]).astype(np.int64), math.pi * draws[:, 1]
        outer = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        inner = np.array([1.0, 0.5]) - outer
        points = np.where(moon[:, None] == 0, outer, inner) + self.noise * normal_pairs(draws[:, 2:])
        rows = {"point": points.astype(np.float32)}
        return rows | {"label": moon} if self.labelled else rows
