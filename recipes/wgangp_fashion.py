"""WGAN-GP on Fashion-MNIST: the critic's slope is held at 1 by a penalty, without clipping.

Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1: penalty of weight 10 between real and generated samples, five
critic steps, Adam with 1e-4 and betas 0.5 and 0.9 as for the paper's MNIST networks, no batch norm in the critic, and,
as in the authors' program, generator batches twice the critic's. Deviations: 32 x 32 grey pixels, DCGAN of a quarter of
the width, critic batches of 32, three times the learning rate, and a moving average, from which samples
are drawn.
"""

from framework import (
    Adam,
    Alternating,
    Averaging,
    GradientPenalty,
    Network,
    Player,
    Recipe,
    Shards,
    Wasserstein,
    launch,
)
from framework.networks import dcgan

RECIPE = Recipe(
    name="wgangp_fashion",
    paper="WGAN-GP, Gulrajani et al. 2017, arXiv:1704.00028",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(
        network=Network(dcgan.Generator, z_dim=100, width=32),
        optimizer=Adam(lr=3e-4, betas=(0.5, 0.9)),
    ),
    discriminator=Player(
        network=Network(dcgan.Discriminator, width=32, batch_norm=False),
        optimizer=Adam(lr=3e-4, betas=(0.5, 0.9)),
    ),
    game=Alternating(
        loss=Wasserstein(),
        critic_steps=5,
        generator_batches=2,
        discriminator_terms=(GradientPenalty(weight=10.0),),
    ),
    averaging=Averaging(half_life_images=20_000),
    batch_size=32,
    images=320_000,
)

if __name__ == "__main__":
    launch(RECIPE)
