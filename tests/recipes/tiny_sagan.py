"""The quick start made tiny: a few milliseconds a step, for tests that need real launches."""

from framework import R1, Adam, Alternating, Averaging, Hinge, Network, Player, Recipe, Shards, launch
from framework.networks import sagan

RECIPE = Recipe(
    name="tiny_sagan",
    paper="none: a test",
    data=Shards(
        location="../../recipes/data/fashion_mnist", resolution=32, channels=1, classes=10, flip=True, window=500
    ),
    generator=Player(
        network=Network(sagan.Generator, width=2, z_dim=8, attention_at=8), optimizer=Adam(lr=1e-3), clip_norm=5.0
    ),
    discriminator=Player(network=Network(sagan.Discriminator, width=4, attention_at=8), optimizer=Adam(lr=2e-3)),
    game=Alternating(loss=Hinge(), discriminator_terms=(R1(weight=0.1, every=4),)),
    averaging=Averaging(half_life_images=500),
    batch_size=16,
    images=640,
)

if __name__ == "__main__":
    launch(RECIPE)
