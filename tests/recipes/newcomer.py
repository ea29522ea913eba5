"""A newcomer's recipe: networks in the recipe file itself; FRAMEWORK_TEST_NETWORK chooses the generator."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from framework import Adam, Alternating, Averaging, Hinge, Network, Player, Recipe, Shards, launch
from tests.helpers import newcomers

LATE = 8


class Normed(newcomers.TorchNorm):
    """With torch's batch norm."""


class LateNoise(newcomers.Generator):
    """Begins to draw when nobody looks any more."""

    num_forwards = 0

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.training:
            self.num_forwards += 1
        return super().forward(z + torch.randn_like(z) if self.num_forwards > LATE else z)


GENERATORS = {"normed": Normed, "late": LateNoise}
RECIPE = Recipe(
    name="newcomer",
    paper="none: a test",
    data=Shards(location="../../recipes/data/fashion_mnist", resolution=32, channels=1, window=500),
    generator=Player(
        network=Network(GENERATORS[os.environ.get("FRAMEWORK_TEST_NETWORK", "normed")]), optimizer=Adam(lr=1e-3)
    ),
    discriminator=Player(network=Network(newcomers.Discriminator), optimizer=Adam(lr=1e-3)),
    game=Alternating(loss=Hinge()),
    averaging=Averaging(half_life_images=500),
    batch_size=16,
    images=64,
)

if __name__ == "__main__":
    launch(RECIPE)
