"""Data of one's own: a source without files, whose samples are pictures with a class, and a field computed from them.

A source says which fields a sample has, and what stands at each position: a function of the seed and the position, so
every process, and every resume, finds the same samples. Fields that come from other fields are computed on the device.

    python examples/my_data.py --out runs/my_data --images 20k
    framework sample runs/my_data --classes 0 1 2 --out grid.png
    framework evaluate runs/my_data --metric examples/my_metric.py:Brightness

Pictures in files need no class of one's own: `framework pack FOLDER OUT` makes shards of them, `Shards` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional

from framework import (
    Adam,
    Alternating,
    Computed,
    Draw,
    Field,
    Hinge,
    Image,
    Label,
    Network,
    Player,
    Recipe,
    Term,
    TermInputs,
    launch,
)
from framework.networks import sngan

SIDE = 32


@dataclass(frozen=True, kw_only=True)
class Shapes(Computed):
    """White discs, squares and diamonds of random sizes at random places, on black; the class is the shape."""

    largest: float = 10.0
    """The largest distance in pixels from the middle of a shape to its edge."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """Return the fields of a sample, in the order of `rows`."""
        return Image("image", SIDE, channels=1), Label("label", 3)

    def rows(self, positions: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
        """Return uint8 pictures (n, 1, SIDE, SIDE) and classes (n,) int64 of the samples at these positions."""
        draws = np.stack([np.random.Generator(np.random.Philox(key=[seed, at])).random(4) for at in positions])
        shape = (draws[:, 0] * 3).astype(np.int64)
        size = 4 + (self.largest - 4) * draws[:, 1]
        middle = self.largest + (SIDE - 2 * self.largest) * draws[:, 2:]
        across = np.abs(np.arange(SIDE) - middle[:, 0, None])[:, None, :]
        down = np.abs(np.arange(SIDE) - middle[:, 1, None])[:, :, None]
        distances = np.stack([np.hypot(across, down), np.maximum(across, down), across + down])
        inside = distances[shape, np.arange(len(shape))] <= size[:, None, None]
        return {"image": (255 * inside[:, None]).astype(np.uint8), "label": shape}


@dataclass(frozen=True)
class Coverage:
    """The share of a picture that is white, from 0 to 1: a field that is computed on the device from another one."""

    name: str = "coverage"
    of: str = "image"

    def derived(self) -> dict[str, int]:
        """Return the options that networks take from it: none."""
        return {}

    def tensors(self, fields: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Return (n,) for pictures (n, 1, H, W) in [-1, 1]."""
        return {self.name: (fields[self.of].mean((1, 2, 3)) + 1) / 2}


@dataclass(frozen=True, kw_only=True)
class SameCoverage(Term):
    """Generated pictures cover on average as much as real ones."""

    players: ClassVar[tuple[str, ...]] = ("generator",)

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the squared difference of the two means over a micro-batch."""
        fake = (inputs.tensor("fake").mean((1, 2, 3)) + 1) / 2
        return functional.mse_loss(fake.mean(), inputs.tensor("coverage").mean())


RECIPE = Recipe(
    name="my_data",
    paper="an example",
    data=Shapes(derive=(Coverage(),)),
    generator=Player(network=Network(sngan.Generator, z_dim=16, width=8), optimizer=Adam(lr=1e-3)),
    discriminator=Player(network=Network(sngan.Discriminator, width=8), optimizer=Adam(lr=1e-3)),
    game=Alternating(loss=Hinge(), generator_terms=(SameCoverage(weight=1.0),)),
    batch_size=32,
    images=100_000,
)

if __name__ == "__main__":
    launch(RECIPE)
