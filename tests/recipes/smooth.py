"""Players without kinks on real shards, for comparisons between numbers of processes (see tests/helpers/smooth.py)."""

from framework import R1, Adam, Alternating, Averaging, Hinge, Network, Player, Recipe, Shards, launch
from tests.helpers import smooth

RECIPE = Recipe(
    name="smooth",
    paper="none: a test",
    data=Shards(location="given by --data", resolution=8, channels=1, classes=10, flip=True, window=500),
    generator=Player(network=Network(smooth.Generator), optimizer=Adam(lr=1e-3), clip_norm=5.0),
    discriminator=Player(network=Network(smooth.Discriminator), optimizer=Adam(lr=2e-3)),
    game=Alternating(loss=Hinge(), discriminator_terms=(R1(weight=0.1, every=4),)),
    averaging=Averaging(half_life_images=500),
    batch_size=16,
    images=480,
)

if __name__ == "__main__":
    launch(RECIPE)
