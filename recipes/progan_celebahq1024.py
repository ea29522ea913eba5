"""ProGAN on CelebA-HQ at 1024 x 1024, as published.

Karras et al. 2018 (arXiv:1710.10196), appendix A.1: 800k real images at 4 x 4; then, for every doubling, 800k while the
new layers fade in and 800k to stabilise. Batch 16 up to 128 x 128, then 14, 6 and 3 to fit the memory of one GPU. Adam
(0.001; 0, 0.99; 1e-8) throughout, WGAN-GP with one critic step, drift 0.001.

The paper averages weights with decay 0.999 per step. In images that is a half-life of 16 ln 2 / -ln 0.999 at batch 16;
this recipe keeps it for all resolutions, while the paper's shrinks with the batch. The paper's minibatch standard
deviation is taken over the whole batch, hence groups of 16.
"""

import math

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

FADE_IMAGES = STABLE_IMAGES = 800_000
BATCH_SIZES = {4: 16, 8: 16, 16: 16, 32: 16, 64: 16, 128: 16, 256: 14, 512: 6, 1024: 3}
AVERAGE_DECAY = 0.999
ADAM = Adam(lr=0.001, betas=(0.0, 0.99), eps=1e-8)

GROWTH = Growth(
    phases=tuple(
        Phase(
            resolution=resolution,
            fade_images=FADE_IMAGES if resolution > 4 else 0,
            stable_images=STABLE_IMAGES,
            batch_size=batch_size,
        )
        for resolution, batch_size in BATCH_SIZES.items()
    )
)

RECIPE = Recipe(
    name="progan_celebahq1024",
    paper="ProGAN, Karras et al. 2018, arXiv:1710.10196",
    data=Shards(location="data/celebahq1024", resolution=1024),
    generator=Player(network=Network(progan.Generator), optimizer=ADAM),
    discriminator=Player(network=Network(progan.Discriminator, group_size=16), optimizer=ADAM),
    game=Alternating(loss=Wasserstein(), discriminator_terms=(GradientPenalty(weight=10.0), Drift(weight=0.001))),
    averaging=Averaging(half_life_images=BATCH_SIZES[4] * math.log(0.5) / math.log(AVERAGE_DECAY), ramp_up=None),
    growth=GROWTH,
    batch_size=BATCH_SIZES[1024],
    images=GROWTH.images,
)

if __name__ == "__main__":
    launch(RECIPE)
