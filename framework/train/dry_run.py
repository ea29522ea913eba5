"""Tell what a recipe is and what it will need (`--dry-run`), without data or weights and without writing anything.

Of a growing recipe, one real step of every phase is played too, to measure memory and time on this machine before
weeks are spent on it. Its images are random pixels, and this process takes the largest share that any process of the
launch would have, without communication.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from framework.engines.choose import check
from framework.games.base import Game
from framework.games.example import example_rows
from framework.games.runner import RealBatch
from framework.recipe import Recipe
from framework.recipe.description import describe, dumps, science_hash
from framework.recipe.growth import Segment, dearest
from framework.runtime.launchers import local_processes
from framework.runtime.memory import used_bytes
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.memory import NoEstimate, activation_bytes, fewest_micro_batches, largest_share, usable_bytes
from framework.train.players import build_players, release
from framework.train.trial import shapes_only
from framework.utils.errors import FrameworkError
from framework.utils.quantities import format_bytes, format_count

WATCH_SECONDS = 0.01


@dataclass(kw_only=True)
class _Batch:
    fields: dict[str, Tensor]


class _Peak:
    """The most memory in use inside the `with` block, in bytes, once it has ended."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._done = device, threading.Event()
        self.bytes = 0

    def __enter__(self) -> _Peak:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:  # the C library keeps no peak that could be reset: look often
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(WATCH_SECONDS):
            self.bytes = max(self.bytes, used_bytes(self._device))

    def __exit__(self, *exception: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
            return
        self._done.set()
        self._watcher.join()
        self.bytes = max(self.bytes, used_bytes(self._device))


def rehearse(recipe: Recipe, config: RunConfig, *, world: int, device: torch.device) -> list[dict[str, Any]]:
    """Return a row per phase: resolution, batch size, micro-batches, peak memory in bytes, seconds per 1000 images.

    A phase is played in its fade, which costs most; where memory runs out the row says so in `error`.

    Args:
        world: number of processes of the launch; this one takes the largest share that any of them would have.

    Raises:
        FrameworkError: a step has a loss or gradient that is not finite.
    """
    session = Session(rank=0, world=1, local_rank=0, device=device)
    rows = []
    with ExitStack() as stack:
        players = build_players(recipe, config, session=session, stack=stack)
        for segment in dearest(recipe.segments()):
            # How the batch would be cut.
            micro_batches = config.micro_batches
            if config.auto_micro_batch:
                usable = usable_bytes(device, processes_here=local_processes())
                micro_batches = fewest_micro_batches(recipe, segment, config, world=world, usable=usable)
            local = largest_share(segment.batch_size, micro_batches=micro_batches, world=world)
            row: dict[str, Any] = {
                "resolution": segment.resolution,
                "batch_size": segment.batch_size,
                "micro_batches": micro_batches,
                "images_per_micro_batch": local,
            }
            # This process alone plays the largest share.
            game = players.game(
                replace(segment, batch_size=local * micro_batches), micro_batches=micro_batches, rank=0, world=1
            )
            batches = _examples(recipe, segment, local * micro_batches)
            # One step, measured.
            release(device)
            begun = time.monotonic()
            try:
                with _Peak(device) as peak:
                    _, finite = game.step(batches, images_seen=segment.start)
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
            except torch.OutOfMemoryError:
                rows.append({**row, "error": "out of memory: raise --micro-batches or use --auto-micro-batch"})
                continue
            if not finite:
                raise FrameworkError(
                    f"{segment}: the first step is not finite; lower the learning rate, or use --precision fp32"
                )
            step_images = game.images_of_step(segment.start) * segment.batch_size / (local * micro_batches)
            seconds = time.monotonic() - begun
            rows.append({**row, "memory_bytes": peak.bytes, "seconds_per_kimg": round(1000 * seconds / step_images, 3)})
    return rows


def _examples(recipe: Recipe, segment: Segment, count: int) -> Iterator[RealBatch]:
    """Yield `count` random samples at a time, the same ones for a seed."""
    for seed in itertools.count(recipe.seed):
        yield _Batch(fields=example_rows(recipe, segment, count, seed=seed))


def plan(recipe: Recipe, config: RunConfig, *, world: int, device: torch.device) -> dict[str, Any]:
    """Return the report behind `--dry-run --json`.

    Args:
        world: number of processes.
        device: where the recipe would be trained.

    Raises:
        EngineError: an engine cannot do what the recipe asks.
        FrameworkError: a network cannot be built.
    """
    assert isinstance(recipe.game, Game)
    for side, player in recipe.players.items():
        engine, looked_ahead = player.engine or config.engine, side in recipe.game.looked_ahead()
        check(
            engine,
            player,
            side=side,
            device=device,
            precision=config.precision,
            world=world,
            looked_ahead=looked_ahead,
        )
    networks = {side: shapes_only(recipe, side) for side in recipe.players}
    counts = {side: sum(p.numel() for p in network.parameters()) for side, network in networks.items()}
    last = recipe.segments()[-1]
    local = largest_share(last.batch_size, micro_batches=config.micro_batches, world=world)
    return {
        "recipe": describe(recipe),
        "science_hash": science_hash(recipe),
        "parameters": {**counts, "total": sum(counts.values())},
        "processes": world,
        "engine": config.engine,
        "precision": config.precision,
        "micro_batches": config.micro_batches,
        "images_per_micro_batch": local,
        "memory_bytes_per_process": _memory(networks, counts, recipe, local, config),
    }


def _memory(
    networks: dict[str, nn.Module], counts: dict[str, int], recipe: Recipe, local: int, config: RunConfig
) -> dict[str, int | None]:
    """Return bytes by what they are for; None where they cannot be estimated without running the networks."""
    moments = {side: len(player.optimizer.moments) for side, player in recipe.players.items()}
    memory = {
        "weights": 4 * sum(counts.values()),
        "gradients": 4 * sum(counts.values()),
        "optimizer": 4 * sum(moments[side] * counts[side] for side in recipe.players),
        "average": 4 * sum(counts[side] for side in recipe.game.averaged),
    }
    known = sum(memory.values())
    try:
        counted = activation_bytes(networks, recipe, local)
    except NoEstimate:
        return {**memory, "activations": None, "total": None}
    activations = counted // (1 if config.precision == "fp32" else 2)
    return {**memory, "activations": activations, "total": known + activations}


def _phases(rows: list[dict[str, Any]]) -> Table:
    table = Table("phase", "batch", "micro-batches", "peak memory", "s/kimg", title="One real step of every phase")
    for row in rows:
        measured = (row.get("error", ""), "")
        if "memory_bytes" in row:
            measured = format_bytes(row["memory_bytes"]), f"{row['seconds_per_kimg']:,.1f}"
        side = f"{row['resolution']}x{row['resolution']}"
        table.add_row(side, str(row["batch_size"]), str(row["micro_batches"]), *measured)
    return table


def show(report: dict[str, Any], *, as_json: bool) -> None:
    """Print the report as JSON or as tables."""
    if as_json:
        print(dumps(report), end="")
        return
    console = Console()
    recipe = report["recipe"]
    console.print(f"[bold]{recipe['name']}[/]  {recipe['paper']}", highlight=False)
    console.print(dumps(recipe), highlight=False, end="")
    table = Table("", *report["parameters"], title="Parameters")
    table.add_row("count", *(f"{count:,}" for count in report["parameters"].values()))
    console.print(table)
    if report.get("phases"):
        console.print(_phases(report["phases"]))
    memory = Table(
        "per process", "estimate", title=f"Memory, {report['images_per_micro_batch']} images per micro-batch"
    )
    for name, num_bytes in report["memory_bytes_per_process"].items():
        memory.add_row(name, "unknown" if num_bytes is None else format_bytes(num_bytes))
    console.print(memory)
    console.print(
        f"{format_count(recipe['images'])} images on {report['processes']} process(es), engine {report['engine']}, "
        f"{report['precision']}; science hash {report['science_hash'][:12]}; nothing was written",
        highlight=False,
    )
