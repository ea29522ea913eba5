"""A small StyleGAN2 on emoji: colours and shapes within minutes on two CPU cores.

Karras et al. 2020, arXiv:1912.04958: weight demodulation, skip generator, residual discriminator, lazy R1 and path
lengths with steps of their own. Deviations for the CPU: 32 x 32 pixels, at most 64 channels, a mapping network of 2
layers with 64 features, batch 16. Twice the resolution: `--set data.resolution=64`.
The data are 544 pictures of Noto Emoji in `recipes/data/noto_emoji`.
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
WIDTH = {"channel_base": 1024, "channel_max": 64}

RECIPE = Recipe(
    name="stylegan2_emoji",
    paper="StyleGAN2, Karras et al. 2020, arXiv:1912.04958",
    data=Shards(location="data/noto_emoji", resolution=32),
    generator=Player(
        network=Network(stylegan2.Generator, z_dim=64, w_dim=64, mapping_layers=2, **WIDTH),
        optimizer=ADAM.lazy(every=PATH_LENGTH_EVERY),
    ),
    discriminator=Player(network=Network(stylegan2.Discriminator, **WIDTH), optimizer=ADAM.lazy(every=R1_EVERY)),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(R1(weight=0.1, every=R1_EVERY),),
        generator_terms=(PathLength(weight=2.0, every=PATH_LENGTH_EVERY),),
        lazy_steps=True,
    ),
    averaging=Averaging(half_life_images=5_000),
    batch_size=16,
    images=60_000,
)

if __name__ == "__main__":
    launch(RECIPE)
