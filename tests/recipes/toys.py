"""Toy problems that train in seconds: a table of one's own points, computed points, and stacked pictures."""

from framework import (
    Adam,
    Alternating,
    Averaging,
    EarthMoversDistance,
    ModesHit,
    ModesKL,
    Network,
    NonSaturating,
    Player,
    Recipe,
    RingOfGaussians,
    Shards,
    Stacked,
    StackedModes,
    Vector,
    launch,
)
from framework.networks import mlp

RING_DATA = RingOfGaussians(modes=8, radius=1.0, std=0.3)
CENTRES = tuple(map(tuple, RING_DATA.means().tolist()))


def players() -> dict[str, Player]:
    return {
        "generator": Player(network=Network(mlp.Generator, z_dim=4, width=16, depth=1), optimizer=Adam(lr=2e-3)),
        "discriminator": Player(network=Network(mlp.Discriminator, width=16, depth=1), optimizer=Adam(lr=2e-3)),
    }


def recipe(**parts: object) -> Recipe:
    common = {"paper": "none: a test", "game": Alternating(loss=NonSaturating()), "batch_size": 32, "images": 512}
    return Recipe(averaging=Averaging(half_life_images=200), **{**players(), **common, **parts})  # type: ignore[arg-type]


POINTS = recipe(
    name="points",
    data=Shards("given by --data", fields=(Vector("point", 2),)),
    metrics=(EarthMoversDistance(count=150),),
)
RING = recipe(
    name="ring",
    data=RING_DATA,
    metrics=(
        ModesHit(centres=CENTRES, std=0.3, count=300),
        ModesKL(centres=CENTRES, std=0.3, count=300),
        EarthMoversDistance(real=RING_DATA, count=150),
    ),
)
STACKED = recipe(
    name="stacked",
    data=Stacked(of=Shards("../../recipes/data/fashion_mnist", resolution=32, channels=1, classes=10)),
    batch_size=16,
    images=64,
    metrics=(StackedModes(count=170),),
)

if __name__ == "__main__":
    launch(POINTS)
