"""BigGAN on ImageNet at 128 x 128: the paper's full model (FID 8.51, IS 99.3 after 165k steps).

Brock et al. 2019, arXiv:1809.11096, table 1 and appendix C: SAGAN's game at batch 2048 with 96 channels per multiple,
a shared class embedding of length 128, a latent of 6 chunks of 20, attention at 64 x 64, two critic steps, Adam with
betas 0 and 0.999, learning rates 5e-5 and 2e-4, orthogonal regularisation of the generator with strength 1e-4,
orthogonal initialisation, batch statistics over all devices, samples from an average of the weights (decay 0.9999 per
step). The average starts after 20k steps, as in an author's public PyTorch program. Training collapses sooner or
later: keep checkpoints. Sample with `--truncation` and standing statistics.
"""

import math

from framework import Adam, Alternating, Averaging, Hinge, Network, Orthogonal, Player, Recipe, Shards, launch
from framework.networks import biggan

BATCH_SIZE, CRITIC_STEPS, STEPS = 2048, 2, 165_000
STEP_IMAGES = CRITIC_STEPS * BATCH_SIZE
EMA_DECAY, EMA_START_STEP = 0.9999, 20_000

RECIPE = Recipe(
    name="biggan_imagenet128",
    paper="BigGAN, Brock et al. 2019, arXiv:1809.11096",
    data=Shards(location="data/imagenet128", resolution=128, classes=1000),
    generator=Player(
        network=Network(biggan.Generator, width=96, z_dim=120, shared_dim=128, attention_at=64),
        optimizer=Adam(lr=5e-5, betas=(0.0, 0.999)),
    ),
    discriminator=Player(
        network=Network(biggan.Discriminator, width=96, attention_at=64),
        optimizer=Adam(lr=2e-4, betas=(0.0, 0.999)),
    ),
    game=Alternating(
        loss=Hinge(), critic_steps=CRITIC_STEPS, generator_terms=(Orthogonal(weight=1e-4, exclude=("embedding",)),)
    ),
    averaging=Averaging(
        half_life_images=STEP_IMAGES * math.log(0.5) / math.log(EMA_DECAY),
        ramp_up=None,
        start_images=EMA_START_STEP * STEP_IMAGES,
    ),
    batch_size=BATCH_SIZE,
    images=STEPS * STEP_IMAGES,
)

if __name__ == "__main__":
    launch(RECIPE)
