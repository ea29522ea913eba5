"""The smallest GAN there is: points on a ring of eight Gaussians, without a file of data, seconds on one core.

Goodfellow et al. 2014, arXiv:1406.2661, with the non-saturating loss. The ring is that of Unrolled GAN (Metz et al.
2016, arXiv:1611.02163, section 3.1): radius 2, standard deviation 0.02, on which a plain GAN hunts from mode to mode. A
zero-centred gradient penalty (R1, Mescheder et al. 2018, arXiv:1801.04406) makes it settle: without it, try
`--set game.discriminator_terms=()`.
"""

from framework import R1, Adam, Alternating, Averaging, Network, NonSaturating, Player, Recipe, RingOfGaussians, launch
from framework.evaluation.metrics.modes import ModesHit
from framework.networks import mlp

DATA = RingOfGaussians(modes=8, radius=2.0, std=0.02)

RECIPE = Recipe(
    name="gan_ring",
    paper="GAN, Goodfellow et al. 2014, arXiv:1406.2661",
    data=DATA,
    generator=Player(
        network=Network(mlp.Generator, z_dim=64, width=128, depth=2), optimizer=Adam(lr=1e-3, betas=(0.5, 0.999))
    ),
    discriminator=Player(
        network=Network(mlp.Discriminator, width=128, depth=2), optimizer=Adam(lr=1e-3, betas=(0.5, 0.999))
    ),
    game=Alternating(loss=NonSaturating(), discriminator_terms=(R1(weight=0.1),)),
    averaging=Averaging(half_life_images=20_000),
    batch_size=256,
    images=1_000_000,
    metrics=(ModesHit(centres=tuple(map(tuple, DATA.means().tolist())), std=DATA.std),),
)

if __name__ == "__main__":
    launch(RECIPE)
