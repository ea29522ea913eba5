"""SNGAN on CIFAR-10, unconditional: the paper's residual networks.

Miyato et al. 2018, arXiv:1802.05957, section 4.1 and appendix B: hinge loss, spectral norm in the discriminator only,
Adam with learning rate 2e-4 and betas 0 and 0.9, five critic steps, batch 64, a learning rate that falls linearly to
zero. The paper makes 50k generator steps (FID 21.7); like public reproductions, this makes 100k (mimicry: FID 16.8).
With labels, `--set data.classes=10` gives the projection discriminator (arXiv:1802.05637; mimicry: FID 10.8). No
weights are averaged there; the average that is kept here does not enter training.
"""

from framework import Adam, Alternating, Averaging, Hinge, Linear, Network, Player, Recipe, Shards, launch
from framework.networks import sngan

BATCH_SIZE, CRITIC_STEPS, GENERATOR_STEPS = 64, 5, 100_000
IMAGES = GENERATOR_STEPS * CRITIC_STEPS * BATCH_SIZE
ADAM, TO_ZERO = Adam(lr=2e-4, betas=(0.0, 0.9)), Linear(end_images=IMAGES)

RECIPE = Recipe(
    name="sngan_cifar10",
    paper="SNGAN, Miyato et al. 2018, arXiv:1802.05957",
    data=Shards(location="data/cifar10", resolution=32),
    generator=Player(network=Network(sngan.Generator), optimizer=ADAM, schedule=TO_ZERO),
    discriminator=Player(network=Network(sngan.Discriminator), optimizer=ADAM, schedule=TO_ZERO),
    game=Alternating(loss=Hinge(), critic_steps=CRITIC_STEPS),
    averaging=Averaging(half_life_images=200_000),
    batch_size=BATCH_SIZE,
    images=IMAGES,
)

if __name__ == "__main__":
    launch(RECIPE)
