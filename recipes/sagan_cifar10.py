"""SAGAN on CIFAR-10, class-conditional.

Zhang et al. 2019 (arXiv:1805.08318) give 128 x 128 only. The settings here are those of the public CIFAR-10
reproductions (StudioGAN: FID 14.0 after 90k generator steps, mmagic: 9.4): learning rate 2e-4 for both, Adam with
betas 0.5 and 0.999, five critic steps, batch 64, 100k generator steps, attention at 16 x 16. They average no weights;
the average that is kept here does not enter training.
"""

from framework import Adam, Alternating, Averaging, Hinge, Network, Player, Recipe, Shards, launch
from framework.networks import sagan

BATCH_SIZE, CRITIC_STEPS, GENERATOR_STEPS = 64, 5, 100_000
ADAM = Adam(lr=2e-4, betas=(0.5, 0.999))

RECIPE = Recipe(
    name="sagan_cifar10",
    paper="SAGAN, Zhang et al. 2019, arXiv:1805.08318; CIFAR-10 settings of public reproductions",
    data=Shards(location="data/cifar10", resolution=32, classes=10, flip=True),
    generator=Player(network=Network(sagan.Generator, width=64, z_dim=128, attention_at=16), optimizer=ADAM),
    discriminator=Player(network=Network(sagan.Discriminator, width=64, attention_at=16), optimizer=ADAM),
    game=Alternating(loss=Hinge(), critic_steps=CRITIC_STEPS),
    averaging=Averaging(half_life_images=200_000),
    batch_size=BATCH_SIZE,
    images=GENERATOR_STEPS * CRITIC_STEPS * BATCH_SIZE,
)

if __name__ == "__main__":
    launch(RECIPE)
