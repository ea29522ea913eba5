"""Stacked GAN on Fashion-MNIST."""

from framework import (
    Adam,
    Averaging,
    FeatureCondition,
    Helper,
    LabelCondition,
    Network,
    NoiseEntropy,
    NonSaturating,
    Player,
    Recipe,
    Shards,
    StackedGAN,
    Uniform,
    launch,
)
from framework.networks import stacked

RECIPE = Recipe(
    name="stacked_gan_fashion",
    paper="Stacked GAN, Huang et al. 2016, arXiv:1612.04357",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1, classes=10),
    helpers={
        "encoder": Helper(
            network=Network(stacked.Encoder, resolution=32, channels=1, classes=10),
            weights="data/fashion_encoder/encoder.safetensors",
            sha256="be486a819ab6249bef6bb0fa1e3045cb9c3137480357fe6568c0abecc3410a55",
        )
    },
    generator=Player(
        network=Network(stacked.Generator, width=32, z_dims=(16, 16)), optimizer=Adam(lr=3e-4, betas=(0.5, 0.999))
    ),
    discriminator=Player(
        network=Network(stacked.Discriminator, z_dims=(16, 16)), optimizer=Adam(lr=1e-3, betas=(0.5, 0.999))
    ),
    game=StackedGAN(
        loss=NonSaturating(),
        latents=(Uniform(16, "z1", low=0.0), Uniform(16, "z0", low=0.0)),
        joint_after_images=30_000,
        generator_terms=(LabelCondition(weight=1.0), FeatureCondition(weight=1.0), NoiseEntropy(weight=10.0)),
        discriminator_terms=(NoiseEntropy(weight=10.0),),
    ),
    averaging=Averaging(half_life_images=2_000),
    batch_size=20,
    images=60_000,
)

if __name__ == "__main__":
    launch(RECIPE)
