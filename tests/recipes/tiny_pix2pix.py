"""Translation made tiny: pairs of 16 pixels, a few milliseconds a step, for tests that need real launches."""

from framework import (
    L1,
    Adam,
    Averaging,
    Image,
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

FIELDS = (Image("source", 16, 1), Image("target", 16))

RECIPE = Recipe(
    name="tiny_pix2pix",
    paper="none: a test",
    data=Shards(location="pairs/train", fields=FIELDS, flip=True),
    held_out=Shards(location="pairs/test", fields=FIELDS),
    generator=Player(
        network=Network(
            pix2pix.Generator,
            num_downs=3,
            width=4,
            dropout_at=(1,),
            inference_statistics="running",
        ),
        optimizer=Adam(lr=2e-3, betas=(0.5, 0.999)),
    ),
    discriminator=Player(
        network=Network(pix2pix.Discriminator, num_layers=1, width=4), optimizer=Adam(lr=1e-3, betas=(0.5, 0.999))
    ),
    game=Paired(loss=NonSaturating(), generator_terms=(L1(weight=100.0),)),
    averaging=Averaging(half_life_images=100),
    batch_size=4,
    images=160,
    metrics=(PairedL1(),),
)

if __name__ == "__main__":
    launch(RECIPE)
