"""A small game of pairs on random pictures, the same for any number of processes, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from framework import L1, Adam, Averaging, Image, Network, NonSaturating, Paired, Player, Recipe, Shards
from framework.games.example import example_rows
from framework.games.microbatch import ImageDraws
from framework.networks import pix2pix
from framework.networks.draw import stochastic_inputs
from framework.runtime.seeding import Draws
from tests.helpers.play import Played, steps_on

SIDE = 16


def paired_recipe(**changes: Any) -> Recipe:
    """A U-Net with batch norm and dropout, and a PatchGAN, on pairs of a grey and a coloured picture."""
    pairs = Shards(location="synthetic", fields=(Image("source", SIDE, 1), Image("target", SIDE)))
    adam = Adam(lr=1e-2, betas=(0.5, 0.99))
    options: dict[str, Any] = {
        "data": pairs,
        "held_out": pairs,
        "generator": Player(
            network=Network(pix2pix.Generator, num_downs=3, width=4, dropout_at=(1, 2), inference_statistics="running"),
            optimizer=adam,
        ),
        "discriminator": Player(network=Network(pix2pix.Discriminator, num_layers=1, width=4), optimizer=adam),
        "game": Paired(loss=NonSaturating(), generator_terms=(L1(weight=100.0),)),
        "averaging": Averaging(half_life_images=50),
        "batch_size": 8,
        "images": 10_000,
    }
    return Recipe(name="paired", paper="none", **(options | changes))


def batches(played: Played, *, begin: int = 0) -> Iterator[SimpleNamespace]:
    """This rank's rows of random pairs, a function of the position."""
    position, recipe = begin, played.recipe
    while True:
        rows = example_rows(recipe, played.game.segment, recipe.batch_size, seed=position)
        mine = [part.rows for part in played.partition.slices()]
        yield SimpleNamespace(fields={name: torch.cat([row[m] for m in mine]) for name, row in rows.items()})
        position += recipe.batch_size


def steps(played: Played, *, begin: int = 0, count: int) -> dict[str, Tensor]:
    """Play on random pairs; returns what `play.steps_on` does."""
    return steps_on(played, batches(played, begin=begin), images=begin, count=count)


def outputs(played: Played) -> dict[str, Tensor]:
    """What the generator, the average and the discriminator make of fixed pairs, under `outputs/`."""
    players, count = played.game.players, 6
    dtype = next(players["generator"].network.parameters()).dtype
    rows = example_rows(played.recipe, played.game.segment, count, seed=77)
    source, target = (rows[name].to(dtype).div(127.5).sub(1.0) for name in ("source", "target"))
    draw = ImageDraws(
        draws=Draws(seed=5, images_seen=0),
        purpose="outputs",
        batch_size=count,
        rows=slice(0, count),
        device=torch.device("cpu"),
        dtype=dtype,
    )
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        with players["generator"].resident(), players["discriminator"].resident():
            generator = players["generator"].network.eval()
            found["outputs/generator"] = generator(source, **stochastic_inputs(generator, draw))
            generator.train()
            found["outputs/discriminator"] = players["discriminator"].network.eval()(target, source)
            players["discriminator"].network.train()
        with played.game.averages["generator"].swapped_in() as averaged:
            found["outputs/average"] = averaged(source, **stochastic_inputs(averaged, draw))
    return found
