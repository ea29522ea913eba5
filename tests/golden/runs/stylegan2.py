"""A conditional StyleGAN2 made tiny: lazy penalties with steps of their own, ADA, blur, style mixing, ramps."""

from framework import (
    R1,
    Ada,
    Adam,
    Alternating,
    Averaging,
    Network,
    NonSaturating,
    PathLength,
    Player,
    Ramp,
    Recipe,
    Shards,
    launch,
)
from framework.networks import stylegan2

ADAM = Adam(lr=0.002, betas=(0.0, 0.99), beta2=Ramp(images=64, start=0.9, end=0.99))
WIDTH = {"channel_base": 64, "channel_max": 8, "mapping_layers": 2}

RECIPE = Recipe(
    name="stylegan2",
    paper="none: a test",
    data=Shards(location="../../../recipes/data/noto_emoji", resolution=8, classes=5, window=200),
    generator=Player(network=Network(stylegan2.Generator, z_dim=8, w_dim=8, **WIDTH), optimizer=ADAM.lazy(every=2)),
    discriminator=Player(network=Network(stylegan2.Discriminator, **WIDTH), optimizer=ADAM.lazy(every=4)),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(R1(weight=0.05, every=4),),
        generator_terms=(PathLength(every=2),),
        lazy_steps=True,
        augment=Ada(images=500, every=2),
        blur=Ramp(images=64, start=1.0, end=0.0),
    ),
    averaging=Averaging(half_life_images=Ramp(images=64, start=0.0, end=100.0), ramp_up=None),
    batch_size=8,
    images=64,
)

if __name__ == "__main__":
    launch(RECIPE)
