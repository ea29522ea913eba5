"""The players of a run: build them, initialise them or take them from another run, give them to their engines."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from framework.checkpoint import Checkpoint, TensorSlice, resolve
from framework.engines.base import Engine
from framework.engines.choose import build_engine
from framework.engines.ema import EMA
from framework.games.base import Game
from framework.games.microbatch import BatchPartition
from framework.games.runner import GameRunner
from framework.networks import grow
from framework.objectives.terms import Memory
from framework.recipe import Recipe
from framework.recipe.growth import Segment, segment_at
from framework.runtime.memory import release_unused
from framework.runtime.seeding import NEW_RUNS, DrawsVersion, seed_torch
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.helpers import load_helpers
from framework.train.state import TrainingState
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class Players:
    """All players with what belongs to them for the whole run, whichever segment of the clock is played."""

    recipe: Recipe
    players: dict[str, Engine]
    averages: dict[str, EMA]
    memory: dict[str, Memory]
    helpers: dict[str, nn.Module]
    draws_version: DrawsVersion = NEW_RUNS
    """The version of the random numbers with which the run began."""

    @property
    def average(self) -> EMA:
        """The average of the player that samples are drawn from."""
        return next(iter(self.averages.values()))

    @property
    def state(self) -> TrainingState:
        """All tensors that a checkpoint holds."""
        return TrainingState(players=self.players, averages=self.averages, memory=self.memory)

    def game(self, segment: Segment, *, micro_batches: int, rank: int, world: int) -> GameRunner:
        """Return the game on one segment of the clock, for one process of `world`.

        Raises:
            DataError: some process would be left without images.
        """
        assert isinstance(self.recipe.game, Game)
        return GameRunner(
            self.recipe.game,
            players=self.players,
            averages=self.averages,
            recipe=self.recipe,
            partition=BatchPartition(
                batch_size=segment.batch_size, micro_batches=micro_batches, rank=rank, world=world
            ),
            segment=segment,
            memory=self.memory,
            helpers=self.helpers,
            draws_version=self.draws_version,
        )


def build_players(
    recipe: Recipe,
    config: RunConfig,
    *,
    session: Session,
    stack: ExitStack,
    draws_version: DrawsVersion = NEW_RUNS,
) -> Players:
    """Build all players on the session's device; the engines are closed with `stack` (a collective).

    Raises:
        EngineError: an engine cannot be used here.
    """
    assert isinstance(recipe.game, Game)
    players: dict[str, Engine] = {}
    for name, player in recipe.players.items():
        seed_torch(recipe.seed, "initialisation", name)
        players[name] = build_engine(
            recipe.build_network(name).to(session.device),
            player,
            side=name,
            engine=config.engine,
            precision=config.precision,
            looked_ahead=name in recipe.game.looked_ahead(),
        )
        stack.callback(players[name].close)
    return Players(
        recipe=recipe,
        players=players,
        averages={name: EMA(players[name]) for name in recipe.game.averaged},
        memory={name: {} for name in players},
        helpers=load_helpers(recipe, device=session.device),
        draws_version=draws_version,
    )


def grow_to(players: Mapping[str, Engine], segments: tuple[Segment, ...], *, images_seen: int) -> None:
    """Give growing networks the shape they have after `images_seen` images; leave others as they are."""
    segment = segment_at(segments, images_seen)
    for player in players.values():
        grow(player.network, resolution=segment.resolution, alpha=segment.alpha(images_seen))


def release(device: torch.device) -> None:
    """Return memory to the system that the last segment's activations used."""
    gc.collect()
    release_unused(device)


log = logging.getLogger("framework")

_SIBLINGS = {"weight": "ema", "ema": "weight", "buffer": "ema_buffer", "ema_buffer": "buffer"}
"""The kind that stands in for one that the source does not have; optimiser moments start at zero."""


@torch.no_grad()
def initialise_from(source: Path, state: TrainingState) -> None:
    """Copy weights, averages and buffers of every player that `source` holds; other players stay freshly drawn.

    Args:
        source: a checkpoint, a run folder (its newest valid checkpoint) or a folder made by `framework import`.

    Raises:
        CheckpointError: there is nothing valid at `source`, or a tensor there has another shape.
        FrameworkError: `source` has no player in common with this run, or lacks a tensor of one.
    """
    checkpoint = resolve(source)
    known = set(checkpoint.keys())
    copied: dict[str, int] = {}
    for tensor_slice in state.slices(own=False, buffers=True):
        side, kind, name = tensor_slice.key.split("/", 2)
        if kind in _SIBLINGS and any(key.startswith(f"{side}/") for key in known):
            _copy(checkpoint, known, tensor_slice, side, kind, name)
            copied[side] = copied.get(side, 0) + 1
    for side, engine in state.players.items():
        engine.commit()
        if side not in copied:
            log.warning("%s has no %s: it starts freshly initialised", checkpoint.path, side)
    if not copied:
        raise FrameworkError(
            f"--init-from {source}: it holds neither of {', '.join(state.players)}; choose another source"
        )


def _copy(checkpoint: Checkpoint, known: set[str], tensor_slice: TensorSlice, side: str, kind: str, name: str) -> None:
    key = next((k for k in (tensor_slice.key, f"{side}/{_SIBLINGS[kind]}/{name}") if k in known), None)
    if key is None:
        raise FrameworkError(
            f"--init-from: {checkpoint.path} has no {tensor_slice.key}: choose a source with the recipe's networks"
        )
    checkpoint.fill(
        TensorSlice(key=key, start=tensor_slice.start, values=tensor_slice.values, shape=tensor_slice.shape)
    )
