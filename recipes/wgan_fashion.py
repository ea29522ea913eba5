"""WGAN on Fashion-MNIST: a critic kept Lipschitz by clipped weights, and a loss that tells how far the samples are.

Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1: RMSProp with 5e-5, weights clipped to 0.01 after every step, five
critic steps, batches of 64, DCGAN (section 4.1). As in the authors' program, and not in the paper: more critic steps
before each of the first 25 generator steps and before every 500th, `CriticSteps()`. Deviations: 20 of these instead of
100, 32 x 32 grey pixels, a quarter of DCGAN's width, batches of 32, four times the learning rate, because there are
some 1,600 generator steps, and a moving average, from which samples are drawn.
"""

from framework import (
    Alternating,
    Averaging,
    CriticSteps,
    Network,
    Player,
    Recipe,
    RMSProp,
    Shards,
    Wasserstein,
    launch,
)
from framework.networks import dcgan

RECIPE = Recipe(
    name="wgan_fashion",
    paper="WGAN, Arjovsky et al. 2017, arXiv:1701.07875",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(
        network=Network(dcgan.Generator, z_dim=100, width=32),
        optimizer=RMSProp(lr=2e-4),
    ),
    discriminator=Player(
        network=Network(dcgan.Discriminator, width=32),
        optimizer=RMSProp(lr=2e-4),
        clip_weights=0.01,
    ),
    game=Alternating(loss=Wasserstein(), critic_steps=CriticSteps(usual=5, many=20)),
    averaging=Averaging(half_life_images=20_000),
    batch_size=32,
    images=272_000,
)

if __name__ == "__main__":
    launch(RECIPE)
