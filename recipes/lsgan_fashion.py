"""LSGAN on Fashion-MNIST: squared errors in place of cross-entropies.

Mao et al. 2016, arXiv:1611.04076: targets 0, 1 and 1 (section 3.3, the 0-1 coding), Adam with beta1 0.5. The Pearson
coding (section 3.2.3): --set game.loss.fake_target=-1 --set game.loss.generator_target=0. Deviations: DCGAN of 32 x 32
grey pixels, a quarter of the width in the generator and an eighth in the discriminator, 2e-4 as in DCGAN, batches of
32, and a moving average, from which samples are drawn.
"""

from framework import (
    Adam,
    Alternating,
    Averaging,
    LeastSquares,
    Network,
    Player,
    Recipe,
    Shards,
    launch,
)
from framework.networks import dcgan

RECIPE = Recipe(
    name="lsgan_fashion",
    paper="LSGAN, Mao et al. 2016, arXiv:1611.04076",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(
        network=Network(dcgan.Generator, z_dim=100, width=32),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    discriminator=Player(
        network=Network(dcgan.Discriminator, width=16),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    game=Alternating(loss=LeastSquares()),
    averaging=Averaging(half_life_images=5_000),
    batch_size=32,
    images=120_000,
)

if __name__ == "__main__":
    launch(RECIPE)
