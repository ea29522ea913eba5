"""DCGAN on Fashion-MNIST, clothes within minutes on a CPU.

Radford et al. 2015, arXiv:1511.06434: strided convolutions and batch norm in both players, weights from N(0, 0.02^2),
Adam with 2e-4 and beta1 0.5, batches of 128, latents uniform in [-1, 1]. Deviations: 32 x 32 grey pixels and a quarter
of the width, batches of 64, and a moving average, from which samples are drawn. The paper's 64 x 64 pixels in colour,
with the paper's width, on pictures of one's own:

    python recipes/dcgan_fashion.py --data data/faces --batch-size 128 --set data.resolution=64 --set data.channels=3
        --set generator.network.width=128 --set discriminator.network.width=128
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
    Uniform,
    launch,
)
from framework.networks import dcgan

RECIPE = Recipe(
    name="dcgan_fashion",
    paper="DCGAN, Radford et al. 2015, arXiv:1511.06434",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(
        network=Network(dcgan.Generator, z_dim=100, width=32),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    discriminator=Player(
        network=Network(dcgan.Discriminator, width=32),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    game=Alternating(loss=NonSaturating(), latents=(Uniform(100),)),
    averaging=Averaging(half_life_images=5_000),
    batch_size=64,
    images=120_000,
)

if __name__ == "__main__":
    launch(RECIPE)
