"""AC-GAN on Fashion-MNIST: the discriminator also tells the classes apart, and the generator makes it easy.

Odena et al. 2016, arXiv:1610.09585: a class head in the discriminator, the generator is given the class beside the
latent, both players minimise the cross-entropy of real and of generated samples (section 3); Adam with 2e-4 and beta1
0.5. Programs read that loss in other ways: `AuxiliaryClassifier(reading="real_only")`.
Deviations: DCGAN of 32 x 32 grey pixels and a quarter of its width, without dropout and noise, batches of 32, and a
moving average, from which samples are drawn.
"""

from framework import (
    Adam,
    Alternating,
    AuxiliaryClassifier,
    Averaging,
    Network,
    NonSaturating,
    Player,
    Recipe,
    Shards,
    launch,
)
from framework.networks import dcgan

RECIPE = Recipe(
    name="acgan_fashion",
    paper="AC-GAN, Odena et al. 2016, arXiv:1610.09585",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1, classes=10),
    generator=Player(
        network=Network(dcgan.Generator, z_dim=100, width=32, condition="concatenation"),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    discriminator=Player(
        network=Network(dcgan.Discriminator, width=32, class_head=True),
        optimizer=Adam(lr=2e-4, betas=(0.5, 0.999)),
    ),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(AuxiliaryClassifier(),),
        generator_terms=(AuxiliaryClassifier(),),
    ),
    averaging=Averaging(half_life_images=5_000),
    batch_size=32,
    images=120_000,
)

if __name__ == "__main__":
    launch(RECIPE)
