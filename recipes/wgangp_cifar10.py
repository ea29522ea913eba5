"""WGAN-GP on CIFAR-10 with the paper's residual networks.

Gulrajani et al. 2017, arXiv:1704.00028, section 5.4, with the numbers of the authors' program (gan_cifar_resnet.py):
128 channels everywhere, batch norm in the generator and no normalisation in the critic, Adam with 2e-4 and betas 0 and
0.9, the rate falling to 0 along a line over 100,000 generator steps, five critic steps, critic batches of 64 and
generator batches of 128, a penalty of weight 10. The class-conditional model has a class head in the critic, `--set
data.classes=10 --set discriminator.network.class_head=True`, and `AuxiliaryClassifier()` among the discriminator's
terms, `AuxiliaryClassifier(weight=0.1)` among the generator's. The paper keeps no average of the weights; the one that
is kept here does not enter training.
"""

from framework import (
    Adam,
    Alternating,
    Averaging,
    GradientPenalty,
    Linear,
    Network,
    Player,
    Recipe,
    Shards,
    Wasserstein,
    launch,
)
from framework.networks import sngan

IMAGES = 100_000 * 5 * 64

RECIPE = Recipe(
    name="wgangp_cifar10",
    paper="WGAN-GP, Gulrajani et al. 2017, arXiv:1704.00028",
    data=Shards(location="data/cifar10", resolution=32),
    generator=Player(
        network=Network(sngan.Generator, z_dim=128, width=32),
        optimizer=Adam(lr=2e-4, betas=(0.0, 0.9)),
        schedule=Linear(end_images=IMAGES),
    ),
    discriminator=Player(
        network=Network(sngan.Discriminator, width=64, spectral=False, pooling="mean"),
        optimizer=Adam(lr=2e-4, betas=(0.0, 0.9)),
        schedule=Linear(end_images=IMAGES),
    ),
    game=Alternating(
        loss=Wasserstein(),
        critic_steps=5,
        generator_batches=2,
        discriminator_terms=(GradientPenalty(weight=10.0),),
    ),
    averaging=Averaging(half_life_images=200_000),
    batch_size=64,
    images=IMAGES,
)

if __name__ == "__main__":
    launch(RECIPE)
