"""The first GAN on Fashion-MNIST: perceptrons, rectified units against maxout units with dropout, minutes on a CPU.

Goodfellow et al. 2014, arXiv:1406.2661, section 5: a generator of rectified linear units, a discriminator of maxout
units with dropout, both trained by stochastic gradient descent with momentum; section 3: the generator maximises
log D(G(z)). The paper does not print the sizes, rates and batches of its networks: these are ours, and so are the
32 x 32 pixels in [-1, 1] with tanh in place of a sigmoid, and the moving average, from which samples are drawn.
"""

from framework import (
    SGD,
    Alternating,
    Averaging,
    Network,
    NonSaturating,
    Player,
    Recipe,
    Shards,
    Uniform,
    launch,
)
from framework.networks import mlp

RECIPE = Recipe(
    name="gan_mlp_fashion",
    paper="GAN, Goodfellow et al. 2014, arXiv:1406.2661",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(
        network=Network(mlp.Generator, z_dim=100, width=512, depth=2, activation="relu", gain=1.4),
        optimizer=SGD(lr=0.05, momentum=0.5),
    ),
    discriminator=Player(
        network=Network(mlp.Discriminator, width=128, depth=2, maxout_pieces=5, dropout=0.5, input_dropout=0.2),
        optimizer=SGD(lr=0.05, momentum=0.5),
    ),
    game=Alternating(loss=NonSaturating(), latents=(Uniform(100),)),
    averaging=Averaging(half_life_images=10_000),
    batch_size=100,
    images=400_000,
)

if __name__ == "__main__":
    launch(RECIPE)
