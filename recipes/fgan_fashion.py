"""f-GAN on Fashion-MNIST: any f-divergence by its name.

Nowozin et al. 2016, arXiv:1606.00709: a variational bound on an f-divergence, with the generator's practical loss of
section 3.2. Kullback-Leibler's is the default; the others are one flag away:

    python recipes/fgan_fashion.py --out runs/pearson --set game.loss.divergence=pearson

total_variation, kl, reverse_kl, pearson, neyman, squared_hellinger, jeffrey, jensen_shannon, gan. Deviations: DCGAN of
32 x 32 grey pixels and a quarter of its width instead of the paper's perceptrons, Adam with 2e-4 and beta1 0.5, batches
of 32, gradients clipped to a norm of 10, because several of these losses are exponentials, and a moving average.
"""

from framework import (
    FGAN,
    Adam,
    Alternating,
    Averaging,
    Network,
    Player,
    Recipe,
    Shards,
    launch,
)
from framework.networks import dcgan

RECIPE = Recipe(
    name="fgan_fashion",
    paper="f-GAN, Nowozin et al. 2016, arXiv:1606.00709",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(
        network=Network(dcgan.Generator, z_dim=100, width=32),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
        clip_norm=10.0,
    ),
    discriminator=Player(
        network=Network(dcgan.Discriminator, width=32),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
        clip_norm=10.0,
    ),
    game=Alternating(loss=FGAN(divergence="kl")),
    averaging=Averaging(half_life_images=5_000),
    batch_size=32,
    images=120_000,
)

if __name__ == "__main__":
    launch(RECIPE)
