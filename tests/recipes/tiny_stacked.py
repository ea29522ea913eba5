"""A stacked GAN made tiny, on the shipped encoder: a few milliseconds a step, for tests that need real launches."""

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

ENCODER = Helper(
    network=Network(stacked.Encoder, resolution=32, channels=1, classes=10),
    weights="../../recipes/data/fashion_encoder/encoder.safetensors",
    sha256="be486a819ab6249bef6bb0fa1e3045cb9c3137480357fe6568c0abecc3410a55",
)
ADAM = Adam(lr=2e-3, betas=(0.5, 0.999))

RECIPE = Recipe(
    name="tiny_stacked",
    paper="none: a test",
    data=Shards(location="../../recipes/data/fashion_mnist", resolution=32, channels=1, classes=10, window=500),
    helpers={"encoder": ENCODER},
    generator=Player(
        network=Network(stacked.Generator, width=4, hidden=16, embedding=8, z_dims=(4, 4)), optimizer=ADAM
    ),
    discriminator=Player(network=Network(stacked.Discriminator, width=4, hidden=16, z_dims=(4, 4)), optimizer=ADAM),
    game=StackedGAN(
        loss=NonSaturating(),
        joint_after_images=80,
        latents=(Uniform(4, "z1", low=0.0), Uniform(4, "z0", low=0.0)),
        generator_terms=(LabelCondition(), FeatureCondition(), NoiseEntropy()),
        discriminator_terms=(NoiseEntropy(),),
    ),
    averaging=Averaging(half_life_images=100),
    batch_size=8,
    images=160,
)

if __name__ == "__main__":
    launch(RECIPE)
