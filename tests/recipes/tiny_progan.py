"""A growing recipe made tiny: four phases in a few seconds, for tests that need real launches."""

from framework import (
    Adam,
    Alternating,
    Averaging,
    Drift,
    GradientPenalty,
    Growth,
    Network,
    Phase,
    Player,
    Recipe,
    Shards,
    Wasserstein,
    launch,
)
from framework.networks import progan

RECIPE = Recipe(
    name="tiny_progan",
    paper="none: a test",
    data=Shards(location="../../recipes/data/fashion_mnist", resolution=32, channels=1, window=500),
    generator=Player(
        network=Network(progan.Generator, channel_base=64, channel_max=8, z_dim=8),
        optimizer=Adam(lr=1e-3, betas=(0.0, 0.99)),
    ),
    discriminator=Player(
        network=Network(progan.Discriminator, channel_base=64, channel_max=8),
        optimizer=Adam(lr=1e-3, betas=(0.0, 0.99)),
    ),
    game=Alternating(loss=Wasserstein(), discriminator_terms=(GradientPenalty(), Drift())),
    averaging=Averaging(half_life_images=200),
    growth=Growth(
        phases=(
            Phase(resolution=4, stable_images=64),
            Phase(resolution=8, fade_images=64, stable_images=64),
            Phase(resolution=16, fade_images=64, stable_images=64, batch_size=8),
            Phase(resolution=32, fade_images=48, stable_images=48, batch_size=8, lr_factor=1.5),
        )
    ),
    batch_size=16,
    images=464,
)

if __name__ == "__main__":
    launch(RECIPE)
