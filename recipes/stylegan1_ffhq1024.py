"""StyleGAN on FFHQ at 1024 x 1024, as published.

Karras et al. 2019 (arXiv:1812.04958), configuration F, appendix C: growing from 8 x 8, non-saturating loss with R1
(gamma 10), 25M images, mirrored images, mapping network at a hundredth of the learning rate, mixing in 90% of images.
Batch sizes, learning rates per resolution, 600k images for each half of a phase, and the average's half-life are not in
the text, which refers to the authors' program: these are its settings for eight GPUs.
"""

from framework import (
    R1,
    Adam,
    Alternating,
    Averaging,
    Growth,
    Network,
    NonSaturating,
    Phase,
    Player,
    Recipe,
    Shards,
    launch,
)
from framework.networks import stylegan1

FADE_IMAGES = STABLE_IMAGES = 600_000
TOTAL_IMAGES = 25_000_000
BATCH_SIZES = {8: 256, 16: 128, 32: 64, 64: 32, 128: 32, 256: 32, 512: 32, 1024: 32}
LR_FACTORS = {128: 1.5, 256: 2.0, 512: 3.0, 1024: 3.0}
ADAM = Adam(lr=0.001, betas=(0.0, 0.99), eps=1e-8)

GROWTH = Growth(
    phases=tuple(
        Phase(
            resolution=resolution,
            fade_images=FADE_IMAGES if resolution > 8 else 0,
            stable_images=STABLE_IMAGES,
            batch_size=batch_size,
            lr_factor=LR_FACTORS.get(resolution, 1.0),
        )
        for resolution, batch_size in BATCH_SIZES.items()
    )
)

RECIPE = Recipe(
    name="stylegan1_ffhq1024",
    paper="StyleGAN, Karras et al. 2019, arXiv:1812.04958",
    data=Shards(location="data/ffhq1024", resolution=1024, flip=True),
    generator=Player(network=Network(stylegan1.Generator), optimizer=ADAM),
    discriminator=Player(network=Network(stylegan1.Discriminator), optimizer=ADAM),
    game=Alternating(loss=NonSaturating(), discriminator_terms=(R1(weight=10.0),)),
    averaging=Averaging(half_life_images=10_000, ramp_up=None),
    growth=GROWTH,
    batch_size=BATCH_SIZES[1024],
    images=TOTAL_IMAGES,
)

if __name__ == "__main__":
    launch(RECIPE)
