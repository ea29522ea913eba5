"""Unrolled GAN on the ring of eight Gaussians: the generator plays against the discriminator of five steps later.

Metz et al. 2016, arXiv:1611.02163, section 3.1 and appendix A. As in the authors' notebook: two hidden layers of 128
tanh units in both players, orthogonal weights with a gain of 1.4, Adam with beta1 0.5, five steps of the discriminator
ahead along its own Adam, and both players move at once on the same samples. Deviations: latents of 32 numbers instead
of 256, batches of 256 instead of 512, 3,000 steps, and one learning rate for both players that falls along a cosine,
where the notebook has 1e-3 and 1e-4 for 25,000 steps. Without looking ahead:

    python recipes/unrolled_ring.py --out runs/unrolled_0 --set game.unroll=0
"""

from framework import (
    Adam,
    Averaging,
    Cosine,
    ModesHit,
    Network,
    NonSaturating,
    Player,
    Recipe,
    RingOfGaussians,
    Unrolled,
    launch,
)
from framework.networks import mlp

DATA = RingOfGaussians(modes=8, radius=2.0, std=0.02)

IMAGES = 3_000 * 256

RECIPE = Recipe(
    name="unrolled_ring",
    paper="Unrolled GAN, Metz et al. 2016, arXiv:1611.02163",
    data=DATA,
    generator=Player(
        network=Network(mlp.Generator, z_dim=32, width=128, depth=2, activation="tanh", gain=1.4),
        optimizer=Adam(lr=4e-3, betas=(0.5, 0.999)),
        schedule=Cosine(end_images=IMAGES),
    ),
    discriminator=Player(
        network=Network(mlp.Discriminator, width=128, depth=2, activation="tanh", gain=1.4),
        optimizer=Adam(lr=4e-3, betas=(0.5, 0.999)),
        schedule=Cosine(end_images=IMAGES),
    ),
    game=Unrolled(loss=NonSaturating(), unroll=5),
    averaging=Averaging(half_life_images=10_000),
    batch_size=256,
    images=IMAGES,
    metrics=(ModesHit(centres=tuple(map(tuple, DATA.means().tolist())), std=DATA.std),),
)

if __name__ == "__main__":
    launch(RECIPE)
