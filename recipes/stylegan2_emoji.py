"""A small class-conditional StyleGAN2 on emoji: colours and shapes within minutes on two CPU cores.

Karras et al. 2020, arXiv:1912.04958 (weight demodulation, skip generator, residual discriminator, lazy R1 with its own
step) with the adaptive augmentation of arXiv:2006.06676, which suits a set of 348 pictures. Deviations for the CPU:
32 x 32 pixels, at most 64 channels, a mapping network of 2 layers with 64 features, batch 16, twice the learning rate,
ADA ten times as fast; neither style mixing nor path lengths, as in ADA's own tuning for CIFAR-10. For twice the
resolution use `--set data.resolution=64`. The data is in `recipes/data/noto_emoji`.
"""

from framework import R1, Ada, Adam, Alternating, Averaging, Network, NonSaturating, Player, Recipe, Shards, launch
from framework.networks import stylegan2

R1_EVERY = 16
ADAM = Adam(lr=0.005, betas=(0.0, 0.99), eps=1e-8)
WIDTH = {"channel_base": 512, "channel_max": 64, "mapping_layers": 2}

RECIPE = Recipe(
    name="stylegan2_emoji",
    paper="StyleGAN2, Karras et al. 2020, arXiv:1912.04958, with ADA, arXiv:2006.06676",
    data=Shards(location="data/noto_emoji", resolution=32, classes=5),
    generator=Player(
        network=Network(stylegan2.Generator, z_dim=64, w_dim=64, style_mixing=0.0, **WIDTH), optimizer=ADAM
    ),
    discriminator=Player(network=Network(stylegan2.Discriminator, **WIDTH), optimizer=ADAM.lazy(every=R1_EVERY)),
    game=Alternating(
        loss=NonSaturating(),
        discriminator_terms=(R1(weight=0.05, every=R1_EVERY),),
        lazy_steps=True,
        augment=Ada(images=50_000),
    ),
    averaging=Averaging(half_life_images=3_000),
    batch_size=16,
    images=40_000,
)

if __name__ == "__main__":
    launch(RECIPE)
