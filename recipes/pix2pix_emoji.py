"""pix2pix on emoji: line drawings of Noto emoji are coloured, recognisable after minutes on two cores.

Isola et al. 2017, arXiv:1611.07004: U-Net with skip connections, PatchGAN, 100 times the L1 distance beside the
adversarial loss, dropout as the only noise, the discriminator's loss halved. Deviations, for 64 x 64 pixels and a CPU:
six levels and 24 channels instead of eight and 64, patches of 34 pixels, batches of 8 and learning rates of 6e-4 and
4e-4 that fall to 0 in the second half (the paper: batches of 1, 2e-4), nearest-neighbour upsampling before a
convolution instead of transposed convolutions, which leave a checkerboard, running statistics at inference because
batches are larger than one, and an average of the weights. The pairs are in `recipes/data/emoji_pairs`:

    python recipes/data/emoji_pairs/unpack.py /tmp/pairs
    framework pack /tmp/pairs/train recipes/data/emoji_pairs/train --fields source target --folders A B
    framework pack /tmp/pairs/test recipes/data/emoji_pairs/test --fields source target --folders A B
"""

from framework import (
    L1,
    Adam,
    Averaging,
    Image,
    Linear,
    Network,
    NonSaturating,
    Paired,
    PairedL1,
    Player,
    Recipe,
    Shards,
    launch,
)
from framework.networks import pix2pix

FIELDS = (Image("source", 64, 1), Image("target", 64))

RECIPE = Recipe(
    name="pix2pix_emoji",
    paper="pix2pix, Isola et al. 2017, arXiv:1611.07004",
    data=Shards(location="data/emoji_pairs/train", fields=FIELDS, flip=True),
    held_out=Shards(location="data/emoji_pairs/test", fields=FIELDS),
    generator=Player(
        network=Network(pix2pix.Generator, num_downs=6, width=24, upsampling="nearest", inference_statistics="running"),
        optimizer=Adam(lr=6e-4, betas=(0.5, 0.999)),
        schedule=Linear(start_images=8_000, end_images=16_000),
    ),
    discriminator=Player(
        network=Network(pix2pix.Discriminator, num_layers=2, width=24),
        optimizer=Adam(lr=4e-4, betas=(0.5, 0.999)),
        schedule=Linear(start_images=8_000, end_images=16_000),
    ),
    game=Paired(loss=NonSaturating(), generator_terms=(L1(weight=100.0),)),
    averaging=Averaging(half_life_images=500),
    batch_size=8,
    images=16_000,
    metrics=(PairedL1(),),
)

if __name__ == "__main__":
    launch(RECIPE)
