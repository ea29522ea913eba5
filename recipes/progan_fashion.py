"""A small ProGAN on Fashion-MNIST that grows from 4 to 32 pixels, minutes on two CPU cores.

Karras et al. 2018, arXiv:1710.10196: WGAN-GP with drift, equalised learning rate, pixel norm, minibatch standard
deviation, fading; no labels. Deviations, so that a laptop shows recognisable items within minutes: 32 x 32 grey images,
1/8 of the feature maps, thousands of images per phase instead of 800k, twice the learning rate.
The data is the class-balanced subset in `recipes/data/fashion_mnist`.
"""

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

WIDTHS = (64, 64, 32, 16)
ADAM = Adam(lr=0.002, betas=(0.0, 0.99), eps=1e-8)
GROWTH = Growth(
    phases=(
        Phase(resolution=4, stable_images=4_000),
        Phase(resolution=8, fade_images=4_000, stable_images=6_000),
        Phase(resolution=16, fade_images=8_000, stable_images=12_000),
        Phase(resolution=32, fade_images=12_000, stable_images=24_000),
    )
)

RECIPE = Recipe(
    name="progan_fashion",
    paper="ProGAN, Karras et al. 2018, arXiv:1710.10196",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(network=Network(progan.Generator, z_dim=64, widths=WIDTHS), optimizer=ADAM),
    discriminator=Player(network=Network(progan.Discriminator, widths=WIDTHS), optimizer=ADAM),
    game=Alternating(loss=Wasserstein(), discriminator_terms=(GradientPenalty(weight=10.0), Drift(weight=0.001))),
    averaging=Averaging(half_life_images=2_000, ramp_up=None),
    growth=GROWTH,
    batch_size=16,
    images=GROWTH.images,
)

if __name__ == "__main__":
    launch(RECIPE)
