"""RaSGAN on Fashion-MNIST: is a real sample more real than generated ones are on average?

Jolicoeur-Martineau 2018, arXiv:1807.00734, section 3.3: both players compare with the other side's mean, and one critic
step is enough; Adam with 2e-4 and beta1 0.5. Its other kinds: --set game.loss.kind=least_squares (RaLSGAN)
or hinge. Deviations: DCGAN of 32 x 32 grey pixels and a quarter of the width, batches of 32, and a moving average, from
which samples are drawn.
"""

from framework import (
    Adam,
    Alternating,
    Averaging,
    Network,
    Player,
    Recipe,
    RelativisticAverage,
    Shards,
    launch,
)
from framework.networks import dcgan

RECIPE = Recipe(
    name="rasgan_fashion",
    paper="RaSGAN, Jolicoeur-Martineau 2018, arXiv:1807.00734",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(
        network=Network(dcgan.Generator, z_dim=100, width=32),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    discriminator=Player(
        network=Network(dcgan.Discriminator, width=32),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    game=Alternating(loss=RelativisticAverage(kind="logistic")),
    averaging=Averaging(half_life_images=5_000),
    batch_size=32,
    images=120_000,
)

if __name__ == "__main__":
    launch(RECIPE)
