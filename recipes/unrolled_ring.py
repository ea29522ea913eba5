"""Unrolled GAN on the ring of eight Gaussians: a generator that sees five steps ahead keeps the modes it would leave.

Metz et al. 2016, arXiv:1611.02163, section 3.1 and appendix A: latents of 256 numbers, two hidden layers of 128 units
in the generator and one in the discriminator, batches of 512, Adam with beta1 0.5 and 1e-3 for the generator, 1e-4 for
the discriminator. As in the authors' notebook: tanh, orthogonal weights with a gain of 1.4, two hidden layers in the
discriminator, 5 steps ahead along its own Adam, and both players move at once on the same samples.

    python recipes/unrolled_ring.py --out runs/unrolled_0 --set game.unroll=0
"""

from framework import (
    Adam,
    Averaging,
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

RECIPE = Recipe(
    name="unrolled_ring",
    paper="Unrolled GAN, Metz et al. 2016, arXiv:1611.02163",
    data=DATA,
    generator=Player(
        network=Network(mlp.Generator, z_dim=256, width=128, depth=2, activation="tanh", gain=1.4),
        optimizer=Adam(lr=1e-3, betas=(0.5, 0.999)),
    ),
    discriminator=Player(
        network=Network(mlp.Discriminator, width=128, depth=2, activation="tanh", gain=1.4),
        optimizer=Adam(lr=1e-4, betas=(0.5, 0.999)),
    ),
    game=Unrolled(loss=NonSaturating(), unroll=5),
    averaging=Averaging(half_life_images=10_000),
    batch_size=512,
    images=5_000 * 512,
    metrics=(ModesHit(centres=tuple(map(tuple, DATA.means().tolist())), std=DATA.std),),
)

if __name__ == "__main__":
    launch(RECIPE)
