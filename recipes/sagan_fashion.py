"""The quick start: a small class-conditional SAGAN on Fashion-MNIST, minutes on two CPU cores.

Zhang et al. 2019, arXiv:1805.08318: hinge loss, spectral norm in both players, self-attention, two time scales
(lr 1e-4 and 4e-4, Adam with betas 0 and 0.9). Deviations, so that a laptop shows every class within minutes: 32 x 32
grey images, about 1/5 of the paper's width, batch 16, attention at 16 x 16, both learning rates doubled.
The data is the class-balanced subset in `recipes/data/fashion_mnist`.
"""

from framework import Adam, Alternating, Averaging, Hinge, Network, Player, Recipe, Shards, launch
from framework.networks import sagan

RECIPE = Recipe(
    name="sagan_fashion",
    paper="SAGAN, Zhang et al. 2019, arXiv:1805.08318",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1, classes=10),
    generator=Player(
        network=Network(sagan.Generator, width=12, z_dim=64, attention_at=16),
        optimizer=Adam(lr=2e-4, betas=(0.0, 0.9)),
    ),
    discriminator=Player(
        network=Network(sagan.Discriminator, width=16, attention_at=16),
        optimizer=Adam(lr=8e-4, betas=(0.0, 0.9)),
    ),
    game=Alternating(loss=Hinge()),
    averaging=Averaging(half_life_images=2_000, ramp_up=None),
    batch_size=16,
    images=18_000,
)

if __name__ == "__main__":
    launch(RECIPE)
