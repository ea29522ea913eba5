"""The players of a run: build them, initialise them, and give them to their engines."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from framework.engines.base import Engine
from framework.engines.choose import build_engine
from framework.engines.ema import Average
from framework.games.alternating import Alternating, AlternatingGame
from framework.games.microbatch import BatchShare
from framework.networks import grow
from framework.objectives.penalties import Memory
from framework.recipe import SIDES, Recipe
from framework.recipe.growth import Segment, segment_at
from framework.runtime.memory import release_unused
from framework.runtime.seeding import seed_torch
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.state import TrainingState


@dataclass(frozen=True, kw_only=True)
class Seats:
    """Both players with what belongs to them for the whole run, whichever segment of the clock is played."""

    recipe: Recipe
    players: dict[str, Engine]
    average: Average
    memory: dict[str, Memory]

    @property
    def state(self) -> TrainingState:
        """All tensors that a checkpoint holds."""
        return TrainingState(players=self.players, averages={"generator": self.average}, memory=self.memory)

    def game(self, segment: Segment, *, micro_batches: int, rank: int, world: int) -> AlternatingGame:
        """Return the game on one segment of the clock, for one process of `world`.

        Raises:
            DataError: some process would be left without images.
        """
        assert isinstance(self.recipe.game, Alternating)
        return AlternatingGame(
            self.recipe.game,
            generator=self.players["generator"],
            discriminator=self.players["discriminator"],
            average=self.average,
            recipe=self.recipe,
            share=BatchShare(batch_size=segment.batch_size, micro_batches=micro_batches, rank=rank, world=world),
            segment=segment,
            memory=self.memory,
        )


def seat(recipe: Recipe, config: RunConfig, *, session: Session, stack: ExitStack) -> Seats:
    """Build both players on the session's device; the engines are closed with `stack` (a collective).

    Raises:
        EngineError: an engine cannot be used here.
    """
    players: dict[str, Engine] = {}
    for side in SIDES:
        seed_torch(recipe.seed, "initialisation", side)
        players[side] = build_engine(
            recipe.build_network(side).to(session.device),
            getattr(recipe, side),
            side=side,
            engine=config.engine,
            precision=config.precision,
        )
        stack.callback(players[side].close)
    average = Average(players["generator"])
    return Seats(recipe=recipe, players=players, average=average, memory={side: {} for side in SIDES})


def grow_to(players: Mapping[str, Engine], segments: tuple[Segment, ...], *, images: int) -> None:
    """Give growing networks the shape they have after `images` images; leave others as they are."""
    segment = segment_at(segments, images)
    for player in players.values():
        grow(player.network, resolution=segment.resolution, alpha=segment.alpha(images))


def release(device: torch.device) -> None:
    """Return memory to the system that the last segment's activations used."""
    gc.collect()
    release_unused(device)
