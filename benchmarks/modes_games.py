"""The games of `benchmarks.modes`: objectives and remedies on toy problems, everything else being equal.

Networks, optimisers, batches and lengths are those of `unrolled_ring` but for a shorter latent, batches of 256 and one
learning rate for both players; what a variant changes stands in its line. A remedy is one change to the non-saturating
game.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from framework import (
    FGAN,
    R1,
    Adam,
    AdversarialLoss,
    Alternating,
    Averaging,
    Drift,
    GradientPenalty,
    GridOfGaussians,
    Hinge,
    LeastSquares,
    MaximumLikelihood,
    Minimax,
    ModesHit,
    ModesKL,
    Network,
    NonSaturating,
    Orthogonal,
    Player,
    Ramp,
    Recipe,
    RelativisticAverage,
    RelativisticCentered,
    RelativisticPairing,
    RingOfGaussians,
    RMSProp,
    Shards,
    SoftLabels,
    Stacked,
    StackedModes,
    Stepwise,
    Term,
    Unrolled,
    Wasserstein,
    WeightDecay,
)
from framework.networks import dcgan, mlp

STEPS, BATCH_SIZE = 2_000, 256
IMAGES = STEPS * BATCH_SIZE
ADAM = Adam(lr=1e-3, betas=(0.5, 0.999))
PENALTY = GradientPenalty(weight=0.1)
"""The weight of WGAN-GP's own toy problems (arXiv:1704.00028, the authors' program)."""


def alternating(loss: AdversarialLoss, *terms: Term, **options: Any) -> Alternating:
    """The usual game with terms of the discriminator."""
    return Alternating(loss=loss, discriminator_terms=terms, **options)


def points(data: RingOfGaussians | GridOfGaussians, game: Any, *, seed: int, name: str) -> Recipe:
    """A game on points, before what a variant changes in its players."""
    centres = tuple(map(tuple, data.means().tolist()))
    scale = 1 / float(abs(data.means()).max())
    common: dict[str, Any] = {"width": 128, "activation": "tanh", "gain": 1.4}
    return Recipe(
        name=name,
        paper="none: a comparison",
        data=data,
        generator=Player(network=Network(mlp.Generator, z_dim=16, depth=2, **common), optimizer=ADAM),
        discriminator=Player(network=Network(mlp.Discriminator, depth=2, input_scale=scale, **common), optimizer=ADAM),
        game=game,
        averaging=Averaging(half_life_images=10_000),
        batch_size=BATCH_SIZE,
        images=STEPS * game.images_per_step(BATCH_SIZE),
        metrics=(
            ModesHit(centres=centres, std=data.std, least=10),
            ModesKL(centres=centres, std=data.std),
        ),
        seed=seed,
    )


OBJECTIVES: dict[str, Any] = {
    "minimax": alternating(Minimax()),
    "non-saturating": alternating(NonSaturating()),
    "maximum likelihood": alternating(MaximumLikelihood()),
    "LSGAN": alternating(LeastSquares()),
    "hinge": alternating(Hinge()),
    "WGAN": alternating(Wasserstein(), critic_steps=5),
    "WGAN-GP": alternating(Wasserstein(), PENALTY, Drift(), critic_steps=5),
    "RSGAN": alternating(RelativisticPairing()),
    "RaSGAN": alternating(RelativisticAverage()),
    "RcSGAN": alternating(RelativisticCentered()),
    "f-GAN KL": alternating(FGAN(divergence="kl")),
    "f-GAN reverse KL": alternating(FGAN(divergence="reverse_kl")),
    "f-GAN Pearson": alternating(FGAN(divergence="pearson")),
    "f-GAN squared Hellinger": alternating(FGAN(divergence="squared_hellinger")),
    "f-GAN Jensen-Shannon": alternating(FGAN(divergence="jensen_shannon")),
    "f-GAN total variation": alternating(FGAN(divergence="total_variation")),
}
"""Games that differ in what is minimised."""

NS = NonSaturating()
REMEDIES: dict[str, Any] = {
    "unrolled 5": Unrolled(loss=NS, unroll=5),
    "unrolled 10": Unrolled(loss=NS, unroll=10),
    "simultaneous (unrolled 0)": Unrolled(loss=NS, unroll=0),
    "R1": alternating(NS, R1(weight=0.01)),
    "gradient penalty": alternating(NS, PENALTY),
    "label smoothing": alternating(SoftLabels()),
    "input noise": alternating(NS, input_noise=Ramp(start=0.5, end=0.0, images=IMAGES, shape="linear")),
    "orthogonal weights": alternating(NS, Orthogonal(weight=1e-3)),
    "top-k": alternating(NS, top_k=Stepwise(factor=0.99, every_images=IMAGES // 50, least=0.5)),
    "weight decay": alternating(NS, WeightDecay(weight=1e-4)),
    "two time scales": alternating(NS),
    "minibatch discrimination": alternating(NS),
    "dropout in G": alternating(NS),
}
"""The non-saturating game with one thing added."""

NAMES = (*OBJECTIVES, *REMEDIES)


def on_points(data: RingOfGaussians | GridOfGaussians, name: str, *, seed: int) -> Recipe:
    """A variant on points."""
    recipe = points(data, (OBJECTIVES | REMEDIES)[name], seed=seed, name="modes")
    generator, discriminator = recipe.generator, recipe.discriminator
    if name == "WGAN":  # arXiv:1701.07875, algorithm 1, at 20 times its rate: there are few steps
        clipped = RMSProp(lr=1e-3)
        return replace(
            recipe,
            generator=replace(generator, optimizer=clipped),
            discriminator=replace(discriminator, optimizer=clipped, clip_weights=0.1),
        )
    if name == "two time scales":
        return replace(recipe, generator=replace(generator, optimizer=Adam(lr=2.5e-4, betas=(0.5, 0.999))))
    if name == "minibatch discrimination":
        return replace(recipe, discriminator=_with(discriminator, kernels=16, kernel_dim=3))
    if name == "dropout in G":
        return replace(recipe, generator=_with(generator, dropout=0.2))
    return recipe


def _with(player: Player, **options: Any) -> Player:
    return replace(player, network=Network(player.network.cls, **player.network.options, **options))


STACKED: dict[str, Any] = {
    "DCGAN": alternating(NS),
    "DCGAN, minibatch discrimination": alternating(NS),
    "LSGAN": alternating(LeastSquares()),
    "WGAN-GP": alternating(Wasserstein(), GradientPenalty(weight=10.0), critic_steps=3),
    "RaSGAN": alternating(RelativisticAverage()),
    "unrolled 5": Unrolled(loss=NS, unroll=5),
}
"""Six systems on stacked pictures: the literature's protocol on Fashion-MNIST in place of digits."""


def on_stacked(name: str, *, seed: int, folder: Path) -> Recipe:
    """A system on stacked pictures; the discriminator is narrower than the generator, as in arXiv:1611.02163."""
    critic: dict[str, Any] = {"width": 12}
    if "minibatch" in name:
        critic |= {"kernels": 16}
    if name in ("WGAN-GP", "unrolled 5"):
        critic |= {"batch_norm": False}
    optimizer = Adam(lr=5e-4, betas=(0.5, 0.999))
    game = STACKED[name]
    steps, batch_size = 1_500, 32
    return Recipe(
        name="modes_stacked",
        paper="none: a comparison",
        data=Stacked(of=Shards(str(folder), resolution=32, channels=1)),
        generator=Player(network=Network(dcgan.Generator, z_dim=64, width=16), optimizer=optimizer),
        discriminator=Player(network=Network(dcgan.Discriminator, **critic), optimizer=optimizer),
        game=game,
        averaging=Averaging(half_life_images=5_000),
        batch_size=batch_size,
        images=steps * game.images_per_step(batch_size),
        metrics=(StackedModes(),),
        seed=seed,
    )
