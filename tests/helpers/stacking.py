"""A small stacked GAN on random pictures, the same for any number of processes, and what it came to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
)
from framework.networks import stacked
from framework.runtime.seeding import Draws, seed_torch
from tests.helpers.play import Played, start

SIDE, CLASSES, FEATURES, NOISE = 16, 5, 12, (3, 4)
ENCODER = Network(stacked.Encoder, resolution=SIDE, channels=1, classes=CLASSES, features=FEATURES, width=4)
LATENTS = (Uniform(NOISE[0], "z1", low=0.0), Uniform(NOISE[1], "z0", low=0.0))


def stacked_game(**changes: Any) -> StackedGAN:
    """The paper's terms; the levels come together after 24 images, which are two steps."""
    options: dict[str, Any] = {
        "loss": NonSaturating(),
        "joint_after_images": 24,
        "generator_terms": (LabelCondition(), FeatureCondition(), NoiseEntropy()),
        "discriminator_terms": (NoiseEntropy(),),
        "latents": LATENTS,
    }
    return StackedGAN(**(options | changes))


def stacked_recipe(**changes: Any) -> Recipe:
    """Networks of a few thousand weights; the encoder's weights are `encoder`'s, and in no file."""
    adam = Adam(lr=5e-3, betas=(0.5, 0.99))
    sizes: dict[str, Any] = {"features": FEATURES, "z_dims": NOISE, "width": 4}
    options: dict[str, Any] = {
        "data": Shards(location="synthetic", resolution=SIDE, channels=1, classes=CLASSES),
        "helpers": {"encoder": Helper(network=ENCODER, weights="in memory", sha256="0" * 64)},
        "generator": Player(network=Network(stacked.Generator, hidden=8, embedding=6, **sizes), optimizer=adam),
        "discriminator": Player(network=Network(stacked.Discriminator, hidden=8, **sizes), optimizer=adam),
        "game": stacked_game(),
        "averaging": Averaging(half_life_images=50),
        "batch_size": 12,
        "images": 10_000,
    }
    return Recipe(name="stacked", paper="none", **(options | changes))


def encoder(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """An encoder that was not trained, frozen; the same one everywhere."""
    seed_torch(3, "encoder")
    return ENCODER.build().to(dtype).eval().requires_grad_(False)


def started(recipe: Recipe, *, dtype: torch.dtype = torch.float32, **options: Any) -> Played:
    """The game with its encoder; options as for `play.start`."""
    return start(recipe, dtype=dtype, helpers={"encoder": encoder(dtype)}, **options)


def judged(played: Played) -> dict[str, Tensor]:
    """What the players and the average make of fixed noise and pictures, under `outputs/`."""
    players, draws, count = played.game.players, Draws(seed=5, images_seen=0), 10
    dtype = next(players["generator"].network.parameters()).dtype
    z = draws.uniform("z", count, sum(NOISE)).to(dtype)
    labels = torch.arange(count) % CLASSES
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        with players["generator"].resident(), players["discriminator"].resident():
            network = players["generator"].network.eval()
            made = network(z, labels, draws.uniform("h", count, FEATURES).to(dtype))
            network.train()
            said = players["discriminator"].network(made.images, made.features)
        found |= {"outputs/images": made.images, "outputs/features": made.features}
        for place, level in enumerate(("features", "images")):
            found |= {f"outputs/logits_{level}": said.logits[place], f"outputs/noise_{level}": said.noise[place]}
        with played.game.averages["generator"].swapped_in() as averaged:
            found["outputs/average"] = averaged(z, labels)
    return found
