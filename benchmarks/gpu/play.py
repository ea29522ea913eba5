"""A recipe's game on random pictures: the product's own step, fed from memory."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.job import synchronize
from framework.engines.base import Engine, Precision
from framework.engines.choose import build_engine
from framework.engines.ema import EMA
from framework.games.alternating import Alternating
from framework.games.metrics import Metrics
from framework.games.microbatch import BatchPartition
from framework.games.runner import GameRunner, RealBatch
from framework.recipe import Recipe
from framework.runtime.seeding import Draws, seed_torch
from framework.train.state import TrainingState


@dataclasses.dataclass(kw_only=True)
class Batch:
    """Real pictures (N, C, H, W) uint8 with labels (N,), pinned where a GPU reads them."""

    images: Tensor
    labels: Tensor

    @property
    def fields(self) -> dict[str, Tensor]:
        """The fields of the samples."""
        return {"image": self.images, "label": self.labels}


class Play:
    """A game on the last segment of the recipe's clock, where progressive recipes are at full resolution.

    Args:
        recipe: whose networks, losses and penalties are played.
        batch_size: real pictures per discriminator turn.
        device: of both players.
        precision: of forward passes.
        prepare: done to each network before its engine takes it.

    Attributes:
        images: the clock.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        batch_size: int,
        device: torch.device,
        precision: Precision,
        prepare: Callable[[nn.Module], object] = lambda network: None,
    ) -> None:
        assert isinstance(recipe.game, Alternating)
        self.device, self._batch_size = device, batch_size
        self.players: dict[str, Engine] = {}
        for side, player in recipe.players.items():
            seed_torch(recipe.seed, "initialisation", side)
            network = recipe.build_network(side).to(device)
            prepare(network)
            self.players[side] = build_engine(network, player, side=side, engine="ddp", precision=precision)
        segment = dataclasses.replace(recipe.segments()[-1], batch_size=batch_size)
        average = EMA(self.players["generator"])
        self.game = GameRunner(
            recipe.game,
            players=self.players,
            averages={"generator": average},
            recipe=recipe,
            partition=BatchPartition(batch_size=batch_size),
            segment=segment,
        )
        self.state = TrainingState(players=self.players, averages={"generator": average}, memory=self.game.memory)
        self.images = segment.start
        self._batches = _batches(recipe, batch_size=batch_size, side=segment.resolution, device=device)

    def step(self) -> tuple[Metrics, bool]:
        """One step of the game; see `GameRunner.step`."""
        metrics, finite = self.game.step(self._batches, images_seen=self.images)
        self.images += self.game.images_of_step(self.images)
        return metrics, finite

    def pace(self, *, steps: int, warm_up: int) -> dict[str, Any]:
        """How fast it is, over `steps` steps after `warm_up`; 16 steps hold every lazy penalty of the recipes.

        `host_ms` is the time until the step's call returns, `step_ms` until the device has done the work.
        """
        for _ in range(warm_up):
            self.step()
        synchronize(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        host, whole = [], []
        for _ in range(steps):
            began = time.perf_counter()
            self.step()
            host.append(time.perf_counter() - began)
            synchronize(self.device)
            whole.append(time.perf_counter() - began)
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None
        seconds_per_image = sum(whole) / (steps * self.game.images_of_step(0))
        return {
            "s_per_kimg": round(1000 * seconds_per_image, 3),
            "images_per_s": round(1 / seconds_per_image, 2),
            "median_step_ms": round(1000 * statistics.median(whole), 2),
            "median_host_ms": round(1000 * statistics.median(host), 2),
            "peak_gib": None if peak is None else round(peak, 2),
        }


def _batches(recipe: Recipe, *, batch_size: int, side: int, device: torch.device) -> Iterator[RealBatch]:
    draws = Draws(seed=1, images_seen=0)
    images = draws.integers("images", 256, batch_size, recipe.data.channels, side, side).to(torch.uint8)
    labels = draws.integers("labels", max(1, recipe.data.classes), batch_size)
    if device.type == "cuda":
        images, labels = images.pin_memory(), labels.pin_memory()
    return itertools.repeat(Batch(images=images, labels=labels))
