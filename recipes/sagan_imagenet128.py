"""SAGAN on ImageNet at 128 x 128 with the paper's settings.

Zhang et al. 2019, arXiv:1805.08318, sections 4 and 5: spectral norm in both players, conditional batch norm, projection
discriminator, self-attention at 64 x 64, hinge loss (eq. 4), Adam with beta1 = 0 and beta2 = 0.9, learning rates 1e-4
and 4e-4, one discriminator step per generator step, batch 256, one million steps (FID 18.65). Images are resized and
cropped to 128 x 128 when packed. The paper averages no weights; the average that is kept here does not enter training.
"""

from framework import Adam, Alternating, Averaging, Hinge, Network, Player, Recipe, Shards, launch
from framework.networks import sagan

BATCH_SIZE, STEPS = 256, 1_000_000

RECIPE = Recipe(
    name="sagan_imagenet128",
    paper="SAGAN, Zhang et al. 2019, arXiv:1805.08318",
    data=Shards(location="data/imagenet128", resolution=128, classes=1000, flip=True),
    generator=Player(
        network=Network(sagan.Generator, width=64, z_dim=128, attention_at=64),
        optimizer=Adam(lr=1e-4, betas=(0.0, 0.9)),
    ),
    discriminator=Player(
        network=Network(sagan.Discriminator, width=64, attention_at=64),
        optimizer=Adam(lr=4e-4, betas=(0.0, 0.9)),
    ),
    game=Alternating(loss=Hinge(), critic_steps=1),
    averaging=Averaging(half_life_images=180_000),
    batch_size=BATCH_SIZE,
    images=STEPS * BATCH_SIZE,
)

if __name__ == "__main__":
    launch(RECIPE)
