"""SAGAN on ImageNet at 128 x 128 with BigGAN's schedule: the variant that public reproductions bring to FID 12.83.

Zhang et al. 2019 (arXiv:1805.08318) trained as in Brock et al. 2019 (arXiv:1809.11096). What differs from
`sagan_imagenet128.py`: beta2 = 0.999, no spectral norm on the conditional batch norm's embeddings, statistics of each
process's own batch (8 x 32 images), Xavier initialisation, no augmentation, and samples from an average of the weights
(decay 0.999 per step, from step 2000). The reported score was reached after 826k steps.
"""

import math

from framework import Adam, Alternating, Averaging, Hinge, Network, Player, Recipe, Shards, launch
from framework.networks import sagan

BATCH_SIZE, STEPS = 256, 826_000
EMA_DECAY, EMA_START_STEP = 0.999, 2_000

RECIPE = Recipe(
    name="sagan_imagenet128_biggan",
    paper="SAGAN, Zhang et al. 2019, arXiv:1805.08318, with the schedule of Brock et al. 2019, arXiv:1809.11096",
    data=Shards(location="data/imagenet128", resolution=128, classes=1000),
    generator=Player(
        network=Network(
            sagan.Generator,
            width=64,
            z_dim=128,
            attention_at=64,
            conditional_spectral=False,
            statistics="local",
            init="xavier",
        ),
        optimizer=Adam(lr=1e-4, betas=(0.0, 0.999)),
    ),
    discriminator=Player(
        network=Network(sagan.Discriminator, width=64, attention_at=64, init="xavier"),
        optimizer=Adam(lr=4e-4, betas=(0.0, 0.999)),
    ),
    game=Alternating(loss=Hinge(), critic_steps=1),
    averaging=Averaging(
        half_life_images=BATCH_SIZE * math.log(0.5) / math.log(EMA_DECAY),
        ramp_up=None,
        start_images=EMA_START_STEP * BATCH_SIZE,
    ),
    batch_size=BATCH_SIZE,
    images=STEPS * BATCH_SIZE,
)

if __name__ == "__main__":
    launch(RECIPE)
