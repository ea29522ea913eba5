"""Every family made small, with everything that its recipes use: what parity and resume are shown on."""

from __future__ import annotations

from framework import (
    R1,
    R2,
    Ada,
    Adam,
    Alternating,
    Averaging,
    DiffAugment,
    Drift,
    GradientPenalty,
    Growth,
    Hinge,
    Network,
    NonSaturating,
    Orthogonal,
    PathLength,
    Phase,
    Player,
    Ramp,
    Recipe,
    RelativisticPairing,
    Shards,
    Wasserstein,
)
from framework.networks import biggan, progan, r3gan, sngan, stylegan1, stylegan2, stylegan3


def _recipe(name: str, generator: Network, discriminator: Network, game: Alternating, **changes: object) -> Recipe:
    resolution = generator.options.get("resolution", 16)
    options: dict[str, object] = {
        "data": Shards(location="synthetic", resolution=resolution, channels=3, classes=4),
        "averaging": Averaging(half_life_images=50),
        "batch_size": 8,
        "images": 10_000,
    }
    adam = Adam(lr=1e-3, betas=(0.0, 0.99))
    return Recipe(
        name=name,
        paper="none",
        generator=Player(network=generator, optimizer=adam),
        discriminator=Player(network=discriminator, optimizer=adam.lazy(every=2) if game.lazy_steps else adam),
        game=game,
        **(options | changes),  # type: ignore[arg-type]
    )


GROWING = Growth(
    phases=(
        Phase(resolution=4, stable_images=8),
        Phase(resolution=8, fade_images=8, stable_images=8),
        Phase(resolution=16, fade_images=64, stable_images=8),
    )
)

SMALL = {"channel_base": 64, "channel_max": 6}
STYLE = {**SMALL, "z_dim": 6, "w_dim": 8}

FAMILIES = {
    "ProGAN in mid-fade": _recipe(
        "progan",
        Network(progan.Generator, **SMALL, z_dim=6),
        Network(progan.Discriminator, **SMALL),
        Alternating(loss=Wasserstein(), discriminator_terms=(GradientPenalty(), Drift())),
        growth=GROWING,
    ),
    "StyleGAN1 in mid-fade": _recipe(
        "stylegan1",
        Network(stylegan1.Generator, **STYLE, mapping_layers=2),
        Network(stylegan1.Discriminator, **SMALL),
        Alternating(loss=NonSaturating(), discriminator_terms=(R1(weight=1.0),)),
        growth=GROWING,
    ),
    "StyleGAN2 with path length, ADA": _recipe(
        "stylegan2",
        Network(stylegan2.Generator, **STYLE, mapping_layers=2),
        Network(stylegan2.Discriminator, **SMALL, mapping_layers=2),
        Alternating(
            loss=NonSaturating(),
            discriminator_terms=(R1(weight=1.0, every=2),),
            generator_terms=(PathLength(every=2),),
            lazy_steps=True,
            augment=Ada(preset="bgc", start=0.5, images=200, every=2),
        ),
    ),
    "StyleGAN3 with ADA": _recipe(
        "stylegan3",
        Network(stylegan3.Generator, **STYLE, num_layers=4, num_critical=2, margin=4, resolution=16),
        Network(stylegan2.Discriminator, **SMALL, mapping_layers=2, resolution=16),
        Alternating(
            loss=NonSaturating(),
            discriminator_terms=(R1(weight=1.0, every=2),),
            lazy_steps=True,
            augment=Ada(preset="blit", start=0.5, images=200, every=2),
        ),
    ),
    "BigGAN, two critic steps": _recipe(
        "biggan",
        Network(biggan.Generator, resolution=32, width=4, z_dim=8, shared_dim=4, attention_at=16),
        Network(biggan.Discriminator, resolution=32, width=4, attention_at=16),
        Alternating(loss=Hinge(), critic_steps=2, generator_terms=(Orthogonal(),), augment=DiffAugment()),
    ),
    "SNGAN": _recipe(
        "sngan",
        Network(sngan.Generator, resolution=32, width=4, z_dim=8),
        Network(sngan.Discriminator, resolution=32, width=4),
        Alternating(loss=Hinge()),
    ),
    "R3GAN": _recipe(
        "r3gan",
        Network(r3gan.Generator, z_dim=6, widths=(8, 8, 8), groups=(2, 2, 2), num_blocks=1),
        Network(r3gan.Discriminator, widths=(8, 8, 8), groups=(2, 2, 2), num_blocks=1),
        Alternating(
            loss=RelativisticPairing(),
            fake_labels="real",
            discriminator_terms=(R1(weight=Ramp(start=1.0, end=0.1, images=100)), R2(weight=1.0)),
        ),
        averaging=Averaging(half_life_images=Ramp(start=0.0, end=50.0, images=100), ramp_up=None),
    ),
}


def segment_of(recipe: Recipe) -> int:
    """The segment to play: the longest one, which for a growing recipe is its last fade."""
    lengths = [segment.end - segment.start for segment in recipe.segments()]
    return lengths.index(max(lengths))
