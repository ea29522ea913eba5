"""A conditional SAGAN made tiny: class-conditional batch norm, attention, DiffAugment, two critic turns a step."""

from framework import (
    R1,
    Adam,
    Alternating,
    Averaging,
    Cosine,
    DiffAugment,
    Hinge,
    Linear,
    Network,
    Orthogonal,
    Player,
    Recipe,
    Shards,
    launch,
)
from framework.networks import sagan

RECIPE = Recipe(
    name="sagan",
    paper="none: a test",
    data=Shards(
        location="../../../recipes/data/fashion_mnist", resolution=32, channels=1, classes=10, flip=True, window=500
    ),
    generator=Player(
        network=Network(sagan.Generator, width=2, z_dim=8, attention_at=8),
        optimizer=Adam(lr=1e-3),
        schedule=Cosine(end_images=128, end=0.1),
        clip_norm=5.0,
    ),
    discriminator=Player(
        network=Network(sagan.Discriminator, width=4, attention_at=8),
        optimizer=Adam(lr=2e-3),
        schedule=Linear(start_images=32, end_images=128),
    ),
    game=Alternating(
        loss=Hinge(),
        critic_steps=2,
        discriminator_terms=(R1(weight=0.1, every=4),),
        generator_terms=(Orthogonal(),),
        augment=DiffAugment(),
        fake_labels="real",
    ),
    averaging=Averaging(half_life_images=50),
    batch_size=8,
    images=64,
)

if __name__ == "__main__":
    launch(RECIPE)
