"""StyleGAN2 on FFHQ at 256 x 256, as the baseline of ADA.

Karras et al. 2020, arXiv:2006.06676 (appendix C; FID 3.66 with all 70 000 images and their mirror images): half the
channels of the original, batch 64, minibatch deviation over 8 images, learning rate 0.0025, R1 with gamma 1, an average
of the weights with a half-life of 20 000 images, mixed precision with clamped activations at the four finest
resolutions. For fewer images give the game `augment=Ada()`. Pack the data with `framework pack`, see
`recipes/data/README.md`.
"""

from framework import (
    R1,
    Adam,
    Alternating,
    Averaging,
    Network,
    NonSaturating,
    PathLength,
    Player,
    Recipe,
    Shards,
    launch,
)
from framework.networks import stylegan2

ADAM = Adam(lr=0.0025, betas=(0.0, 0.99), eps=1e-8)
R1_EVERY, PATH_LENGTH_EVERY = 16, 4
WIDTH = {"channel_base": 16_384, "conv_clamp": 256.0}

RECIPE = Recipe(
    name="stylegan2_ffhq256",
    paper="StyleGAN2 as in ADA, Karras et al. 2020, arXiv:2006.06676",
    data=Shards(location="data/ffhq256", resolution=256, flip=True),
    generator=Player(network=Network(stylegan2.Generator, **WIDTH), optimizer=ADAM.lazy(every=PATH_LENGTH_EVERY)),
    discriminator=Player(
        network=Network(stylegan2.Discriminator, stddev_group_size=8, **WIDTH), optimizer=ADAM.lazy(every=R1_EVERY)
    ),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(R1(weight=1.0, every=R1_EVERY),),
        generator_terms=(PathLength(weight=2.0, every=PATH_LENGTH_EVERY),),
        lazy_steps=True,
    ),
    averaging=Averaging(half_life_images=20_000, ramp_up=None),
    batch_size=64,
    images=25_000_000,
)

if __name__ == "__main__":
    launch(RECIPE)
