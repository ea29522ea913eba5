"""InfoGAN on Fashion-MNIST: codes that nobody named come to mean something.

Chen et al. 2016, arXiv:1606.03657, appendix C.1: 62 numbers of noise, a code of ten classes and two uniform ones; the
paper's networks, Adam with 2e-4 for the discriminator and 1e-3 for the generator, beta1 0.5, batches of 128, lambda 1.
As in the authors' program the bound is part of both players' losses, and continuous codes are read as the mean of a
normal distribution of variance 1. Deviations: 32 x 32 pixels instead of 28 x 28, half the width, labels are not used,
and a moving average, from which samples are drawn.
"""

from framework import (
    Adam,
    Alternating,
    Averaging,
    Categorical,
    Gaussian,
    MutualInformation,
    Network,
    NonSaturating,
    Player,
    Recipe,
    Shards,
    Uniform,
    launch,
)
from framework.networks import infogan

CODES = (Categorical(10, name="kind"), Uniform(2, name="style"))
INFORMATION = MutualInformation(codes=CODES)

RECIPE = Recipe(
    name="infogan_fashion",
    paper="InfoGAN, Chen et al. 2016, arXiv:1606.03657",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(
        network=Network(infogan.Generator, z_dim=74, width=32, hidden=512),
        optimizer=Adam(lr=1e-3, betas=(0.5, 0.999)),
    ),
    discriminator=Player(
        network=Network(infogan.Discriminator, width=32, hidden=512, codes=INFORMATION.width),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    game=Alternating(
        loss=NonSaturating(),
        latents=(Gaussian(62), *CODES),
        discriminator_terms=(INFORMATION,),
        generator_terms=(INFORMATION,),
    ),
    averaging=Averaging(half_life_images=5_000),
    batch_size=128,
    images=160_000,
)

if __name__ == "__main__":
    launch(RECIPE)
