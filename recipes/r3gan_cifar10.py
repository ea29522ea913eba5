"""R3GAN on CIFAR-10, class-conditional (FID 1.96).

Huang et al. 2024, arXiv:2501.05441, appendix D and table 9: relativistic pairing loss with R1 and R2 on every turn, one
critic step, batch 512, Adam with beta1 = 0. Over the first 20 million images ("burn-in") five numbers move along half a
cosine and then stay: learning rate 2e-4 to 5e-5, beta2 0.9 to 0.99, gamma 0.05 to 0.005, half-life of the averaged
weights 0 to 5 million images, probability of each augmentation 0 to 0.55. 250 million images. Generated images carry
the labels of the real ones they are paired with. The paper computes the finer stages in bfloat16: `--precision bf16`.
"""

from framework import (
    R1,
    R2,
    Adam,
    Alternating,
    Averaging,
    Cosine,
    Network,
    Player,
    Ramp,
    Recipe,
    RelativisticPairing,
    Shards,
    launch,
)
from framework.augment.ada import Ada
from framework.networks import r3gan

BURN_IN_IMAGES = 20_000_000
ADAM = Adam(lr=2e-4, betas=(0.0, 0.99), eps=1e-8, beta2=Ramp(start=0.9, end=0.99, images=BURN_IN_IMAGES))
TO_A_QUARTER = Cosine(end_images=BURN_IN_IMAGES, end=0.25)
GAMMA = Ramp(start=0.05, end=0.005, images=BURN_IN_IMAGES)

RECIPE = Recipe(
    name="r3gan_cifar10",
    paper="R3GAN, Huang et al. 2024, arXiv:2501.05441",
    data=Shards(location="data/cifar10", resolution=32, classes=10, flip=True),
    generator=Player(network=Network(r3gan.Generator), optimizer=ADAM, schedule=TO_A_QUARTER),
    discriminator=Player(network=Network(r3gan.Discriminator), optimizer=ADAM, schedule=TO_A_QUARTER),
    game=Alternating(
        loss=RelativisticPairing(),
        discriminator_terms=(R1(weight=GAMMA), R2(weight=GAMMA)),
        augment=Ada(
            preset="bgc",
            start=Ramp(start=0.0, end=0.55, images=BURN_IN_IMAGES),
            every=None,
            brightness=0.5,
            contrast=0.5,
            luma_flip=0.5,
            hue=0.5,
            saturation=0.5,
            cutout=1.0,
        ),
        fake_labels="real",
    ),
    averaging=Averaging(half_life_images=Ramp(start=0.0, end=5_000_000.0, images=BURN_IN_IMAGES), ramp_up=None),
    batch_size=512,
    images=250_000_000,
)

if __name__ == "__main__":
    launch(RECIPE)
