"""StyleGAN3-r on AFHQv2 at 512 x 512, from scratch (Karras et al. 2021, arXiv:2106.12423).

Everything is from appendix F.2: batch 32, learning rates 0.0025 and 0.002 (figure 16, left), gamma = 16.4 (right), the
average's half-life of 10k images, minibatch standard deviation over 4, 25M images, flips, ADA with its defaults;
Adam with betas 0 and 0.99 and lazy R1 are StyleGAN2's (appendix F). There is neither path length regularisation nor
style mixing. The 15803 images are all three of the set's classes together.

Unlike config T (`stylegan3_afhqv2.py`): 1 x 1 convolutions, radial filters, twice the channels, twice the gamma, and a
Gaussian blur in front of the discriminator whose sigma falls from 10 pixels to 0 over the first 200k images.
"""

from framework import (
    R1,
    Ada,
    Adam,
    Alternating,
    Averaging,
    Network,
    NonSaturating,
    Player,
    Ramp,
    Recipe,
    Shards,
    launch,
)
from framework.networks import stylegan2, stylegan3

BATCH_SIZE, R1_EVERY = 32, 16
MAGNITUDE_HALF_LIFE = 20_000  # images (appendix F.1)

RECIPE = Recipe(
    name="stylegan3r_afhqv2",
    paper="StyleGAN3, Karras et al. 2021, arXiv:2106.12423, config R",
    data=Shards(location="data/afhqv2_512", resolution=512, flip=True),
    generator=Player(
        network=Network(
            stylegan3.Generator, **stylegan3.ROTATION, magnitude_keep=0.5 ** (BATCH_SIZE / MAGNITUDE_HALF_LIFE)
        ),
        optimizer=Adam(lr=2.5e-3, betas=(0.0, 0.99)),
    ),
    discriminator=Player(
        network=Network(stylegan2.Discriminator, stddev_group_size=4, conv_clamp=256.0),
        optimizer=Adam(lr=2e-3, betas=(0.0, 0.99)).lazy(every=R1_EVERY),
    ),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(R1(weight=16.4, every=R1_EVERY),),
        lazy_steps=True,
        augment=Ada(),
        blur=Ramp(start=10.0, end=0.0, images=200_000, shape="linear"),
    ),
    averaging=Averaging(half_life_images=10_000, ramp_up=0.05),
    batch_size=BATCH_SIZE,
    images=25_000_000,
)

if __name__ == "__main__":
    launch(RECIPE)
