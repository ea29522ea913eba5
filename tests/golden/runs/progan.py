"""A ProGAN made tiny, stopped while a resolution fades in: phases, gradient penalty, drift, minibatch deviation."""

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
    name="progan",
    paper="none: a test",
    data=Shards(location="../../../recipes/data/fashion_mnist", resolution=8, channels=1, window=500),
    generator=Player(
        network=Network(progan.Generator, channel_base=32, channel_max=8, z_dim=8),
        optimizer=Adam(lr=1e-3, betas=(0.0, 0.99)),
    ),
    discriminator=Player(
        network=Network(progan.Discriminator, channel_base=32, channel_max=8),
        optimizer=Adam(lr=1e-3, betas=(0.0, 0.99)),
    ),
    game=Alternating(loss=Wasserstein(), discriminator_terms=(GradientPenalty(), Drift())),
    averaging=Averaging(half_life_images=50),
    growth=Growth(
        phases=(
            Phase(resolution=4, stable_images=32),
            Phase(resolution=8, fade_images=64, stable_images=64, batch_size=8, lr_factor=1.5),
        )
    ),
    batch_size=16,
    images=64,
)

if __name__ == "__main__":
    launch(RECIPE)
