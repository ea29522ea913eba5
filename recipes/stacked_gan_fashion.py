"""A small Stacked GAN on Fashion-MNIST: a stack of two generators inverts a trained encoder, minutes on one CPU core.

Huang et al. 2016, arXiv:1612.04357, with the settings of the authors' program for MNIST: adversarial and conditional
losses of weight 1, an entropy loss of weight 10, uniform noise, sigmoid cross-entropy halved for the discriminators,
each level trained by itself first and then on what the level above makes.

Deviations, for diverse clothes within minutes: noise of 16 numbers a level instead of 50, half the feature maps in the
lower generator, batches of 20 instead of 100, an average of the weights, and learning rates of 3e-4 and 1e-3 instead of
1e-4: the discriminators, whose heads read the noise, learn faster. At 32 px the lower generator doubles its maps from
4 px on, and ends in a plain convolution and a tanh. Classes are drawn instead of being those of the batch. The encoder
is the program's, trained on the vendored pictures alone by `recipes/data/fashion_encoder/train.py`.
"""

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

NOISE = 16
BETAS = (0.5, 0.999)

RECIPE = Recipe(
    name="stacked_gan_fashion",
    paper="Stacked GAN, Huang et al. 2016, arXiv:1612.04357",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1, classes=10),
    helpers={
        "encoder": Helper(
            network=Network(stacked.Encoder, resolution=32, channels=1, classes=10, features=256, width=32),
            weights="data/fashion_encoder/encoder.safetensors",
            sha256="be486a819ab6249bef6bb0fa1e3045cb9c3137480357fe6568c0abecc3410a55",
        )
    },
    generator=Player(
        network=Network(stacked.Generator, width=32, z_dims=(NOISE, NOISE)), optimizer=Adam(lr=3e-4, betas=BETAS)
    ),
    discriminator=Player(
        network=Network(stacked.Discriminator, z_dims=(NOISE, NOISE)), optimizer=Adam(lr=1e-3, betas=BETAS)
    ),
    game=StackedGAN(
        loss=NonSaturating(),
        joint_after_images=30_000,
        latents=(Uniform(NOISE, "z1", low=0.0), Uniform(NOISE, "z0", low=0.0)),
        generator_terms=(LabelCondition(weight=1.0), FeatureCondition(weight=1.0), NoiseEntropy(weight=10.0)),
        discriminator_terms=(NoiseEntropy(weight=10.0),),
    ),
    averaging=Averaging(half_life_images=2_000),
    batch_size=20,
    images=60_000,
)

if __name__ == "__main__":
    launch(RECIPE)
