"""A conditional GAN on Fashion-MNIST: both players are told the class.

Mirza & Osindero 2014, arXiv:1411.1784: the class as a one-hot vector beside the latent and beside the sample.
Deviations: DCGAN of 32 x 32 grey pixels, where the class is ten constant maps beside the picture, instead of
perceptrons; Adam with 2e-4 and beta1 0.5 instead of gradient descent; batches of 32; and a moving average.
"""

from framework import (
    Adam,
    Alternating,
    Averaging,
    Network,
    NonSaturating,
    Player,
    Recipe,
    Shards,
    launch,
)
from framework.networks import dcgan

RECIPE = Recipe(
    name="cgan_fashion",
    paper="Conditional GAN, Mirza & Osindero 2014, arXiv:1411.1784",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1, classes=10),
    generator=Player(
        network=Network(dcgan.Generator, z_dim=100, width=32, condition="concatenation"),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    discriminator=Player(
        network=Network(dcgan.Discriminator, width=32, condition="concatenation"),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    game=Alternating(loss=NonSaturating(), fake_labels="real"),
    averaging=Averaging(half_life_images=5_000),
    batch_size=32,
    images=120_000,
)

if __name__ == "__main__":
    launch(RECIPE)
