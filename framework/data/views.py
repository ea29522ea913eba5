"""The view that is taken of a sample: where it is cropped and whether it is mirrored, as a function of its position.

A view is drawn once per sample and is the same for all its fields, whatever their sizes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from framework.data.plan import crop_place, flipped


class View(NamedTuple):
    """How the pictures of one sample are cropped and mirrored.

    Attributes:
        flip: mirror left to right.
        down: the crop's place from the top, of `places_down`.
        right: the crop's place from the left, of `places_right`.
        places_down: number of steps between the highest and the lowest place; 1 where there is nothing to choose.
        places_right: the same from left to right.
    """

    flip: bool = False
    down: int = 0
    right: int = 0
    places_down: int = 1
    places_right: int = 1

    def corner(self, spare: tuple[int, int]) -> tuple[int, int]:
        """Return the row and column at which a crop begins; `spare` is how much higher and wider the picture is."""
        return spare[0] * self.down // self.places_down, spare[1] * self.right // self.places_right


PLAIN = View()
"""The view of samples that are neither cropped nor mirrored."""


MIRRORED = View(flip=True)
"""The view of samples that are only mirrored."""


class Views:
    """The view of every position.

    Args:
        spares: for each picture of a sample, how many pixels the stored one is higher and wider than what is delivered.
        seed: seed of the draws.
        flip: mirror half of the samples.

    Pictures of several sizes are cropped in the steps of the smallest one, so that all of them show the same part.
    """

    def __init__(self, spares: list[tuple[int, int]], *, seed: int, flip: bool) -> None:
        self._seed, self._flip = seed, flip
        self._steps = math.gcd(*(down for down, _ in spares)), math.gcd(*(right for _, right in spares))

    def at(self, position: int) -> View:
        """Return the view of the sample at a position."""
        flip = self._flip and flipped(self._seed, position)
        down, right = self._steps
        if not (down or right):
            return MIRRORED if flip else PLAIN
        places = crop_place(self._seed, position, (down + 1, right + 1))
        return View(flip, *places, max(1, down), max(1, right))
