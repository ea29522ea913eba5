"""StyleGAN2 with adaptive augmentation on CIFAR-10, unconditional.

Karras et al. 2020, arXiv:2006.06676 (appendix C and D; FID 2.92 +- 0.05): no style mixing, no path lengths, a
discriminator without residual blocks, a mapping network of 2 layers, R1 with gamma 0.01, minibatch deviation over 32
images, learning rate 0.0025, batch 64, 100 million images, an average of the weights with a half-life of 500 000 images
that ramps up. With `--set data.classes=10` it is class-conditional (FID 2.42 +- 0.04). Without ADA and this tuning the
FID is 8.32.
"""

from framework import R1, Adam, Alternating, Averaging, Network, NonSaturating, Player, Recipe, Shards, launch
from framework.augment.ada import Ada
from framework.networks import stylegan2

ADAM = Adam(lr=0.0025, betas=(0.0, 0.99), eps=1e-8)
R1_EVERY = 16

RECIPE = Recipe(
    name="stylegan2_cifar10",
    paper="StyleGAN2 with ADA, Karras et al. 2020, arXiv:2006.06676",
    data=Shards(location="data/cifar10", resolution=32),
    generator=Player(
        network=Network(stylegan2.Generator, mapping_layers=2, style_mixing=0.0, conv_clamp=256.0),
        # The published program corrects the generator's Adam as if path lengths took a step of their own.
        optimizer=ADAM.lazy(every=4),
    ),
    discriminator=Player(
        network=Network(stylegan2.Discriminator, architecture="orig", stddev_group_size=32, conv_clamp=256.0),
        optimizer=ADAM.lazy(every=R1_EVERY),
    ),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(R1(weight=0.01, every=R1_EVERY),),
        lazy_steps=True,
        augment=Ada(),
    ),
    averaging=Averaging(half_life_images=500_000, ramp_up=0.05),
    batch_size=64,
    images=100_000_000,
)

if __name__ == "__main__":
    launch(RECIPE)
