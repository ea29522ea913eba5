"""The smallest GAN there is: points on a ring of eight Gaussians, without a file of data, a minute on one core.

The game is that of Goodfellow et al. 2014, arXiv:1406.2661, with the non-saturating loss. The ring is that of Unrolled
GAN (Metz et al. 2016, arXiv:1611.02163, section 3.1): radius 2, standard deviation 0.02. A sample is good within three
standard deviations of a mode, of 2,500 samples, as in VEEGAN (Srivastava et al. 2017, arXiv:1705.07761, section 4.1).

Deviations from Unrolled GAN's networks (appendix A): latents of 8 numbers instead of 256; tanh in the generator, and
leaky ReLU in a discriminator of two hidden layers instead of one; initial weights with a gain of 1.4 instead of 0.8.
Ours are the learning rate with its cosine, a falling R1 penalty (Mescheder et al. 2018, arXiv:1801.04406), and the
moving average of the generator, which is what is measured.

Seeds 0, 1 and 2 hit 8 of 8 modes, with 90, 93 and 91 percent of good samples. The penalty is not what finds the modes:
with `discriminator_terms=()` and all else equal, the same seeds hit 8 of 8 with 92 percent. It makes training faster:
83 to 86 percent are good after a quarter of the run, 75 to 78 without it.
"""

from framework import (
    R1,
    Adam,
    Alternating,
    Averaging,
    Cosine,
    ModesHit,
    Network,
    NonSaturating,
    Player,
    Ramp,
    Recipe,
    RingOfGaussians,
    launch,
)
from framework.networks import mlp

DATA = RingOfGaussians(modes=8, radius=2.0, std=0.02)
IMAGES = 768_000

RECIPE = Recipe(
    name="gan_ring",
    paper="GAN, Goodfellow et al. 2014, arXiv:1406.2661",
    data=DATA,
    generator=Player(
        network=Network(mlp.Generator, z_dim=8, width=128, depth=2, activation="tanh", gain=1.4),
        optimizer=Adam(lr=8e-3, betas=(0.5, 0.999)),
        schedule=Cosine(end_images=IMAGES),
    ),
    discriminator=Player(
        network=Network(mlp.Discriminator, width=128, depth=2, activation="lrelu", gain=1.4),
        optimizer=Adam(lr=8e-3, betas=(0.5, 0.999)),
        schedule=Cosine(end_images=IMAGES),
    ),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(R1(weight=Ramp(start=1e-2, end=1e-3, images=IMAGES // 2)),),
    ),
    averaging=Averaging(half_life_images=10_000),
    batch_size=256,
    images=IMAGES,
    metrics=(ModesHit(centres=tuple(map(tuple, DATA.means().tolist())), std=DATA.std),),
)

if __name__ == "__main__":
    launch(RECIPE)
