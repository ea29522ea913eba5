"""StyleGAN2, configuration F, on FFHQ at 1024 x 1024.

Karras et al. 2020, arXiv:1912.04958 (table 1: FID 2.84): skip generator and residual discriminator, R1 with gamma 10
every 16 discriminator turns, path lengths every 4 generator turns on half the batch, each with an optimiser step of its
own and Adam corrected for it (appendix B), full precision. 25 million images; samples are drawn from an average of the
weights with a half-life of 10 000 images. Pack the data with `framework pack`, see `recipes/data/README.md`.
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

ADAM = Adam(lr=0.002, betas=(0.0, 0.99), eps=1e-8)
R1_EVERY, PATH_LENGTH_EVERY = 16, 4

RECIPE = Recipe(
    name="stylegan2_ffhq1024",
    paper="StyleGAN2, Karras et al. 2020, arXiv:1912.04958",
    data=Shards(location="data/ffhq1024", resolution=1024, flip=True),
    generator=Player(network=Network(stylegan2.Generator), optimizer=ADAM.lazy(every=PATH_LENGTH_EVERY)),
    discriminator=Player(network=Network(stylegan2.Discriminator), optimizer=ADAM.lazy(every=R1_EVERY)),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(R1(weight=10.0, every=R1_EVERY),),
        generator_terms=(PathLength(weight=2.0, every=PATH_LENGTH_EVERY),),
        lazy_steps=True,
    ),
    averaging=Averaging(half_life_images=10_000, ramp_up=None),
    batch_size=32,
    images=25_000_000,
)

if __name__ == "__main__":
    launch(RECIPE)
