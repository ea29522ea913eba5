"""Play one real step of every phase of a growing recipe, to measure memory and time on this machine.

Real images are random pixels, nothing is read and nothing is written. This process takes the largest share that any
process of the launch would have, without communication.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from framework.games.alternating import RealBatch
from framework.recipe import Recipe
from framework.recipe.growth import Segment, dearest
from framework.runtime.launchers import local_processes
from framework.runtime.memory import used_bytes
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.fitting import fewest_micro_batches, usable_bytes
from framework.train.preflight import largest_share
from framework.train.seating import release, seat
from framework.utils.errors import FrameworkError

WATCH_SECONDS = 0.01


@dataclass(kw_only=True)
class _Batch:
    images: Tensor
    labels: Tensor


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
        seats = seat(recipe, config, session=session, stack=stack)
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
            game = seats.game(
                replace(segment, batch_size=local * micro_batches), micro_batches=micro_batches, rank=0, world=1
            )
            batches = _pixels(recipe, segment, local * micro_batches)
            # One step, measured.
            release(device)
            begun = time.monotonic()
            try:
                with _Peak(device) as peak:
                    _, finite = game.step(batches, images=segment.start)
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
            except torch.OutOfMemoryError:
                rows.append({**row, "error": "out of memory: raise --micro-batches or use --auto-micro-batch"})
                continue
            if not finite:
                raise FrameworkError(
                    f"{segment}: the first step is not finite; lower the learning rate, or use --precision fp32"
                )
            step_images = game.step_images * segment.batch_size / (local * micro_batches)
            seconds = time.monotonic() - begun
            rows.append({**row, "memory_bytes": peak.bytes, "seconds_per_kimg": round(1000 * seconds / step_images, 3)})
    return rows


def _pixels(recipe: Recipe, segment: Segment, count: int) -> Iterator[RealBatch]:
    """Yield random images (count, C, R, R) uint8 and labels (count,), the same ones for a seed."""
    generator = torch.Generator().manual_seed(recipe.seed)
    shape = (count, recipe.data.channels, segment.resolution, segment.resolution)
    while True:
        images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        yield _Batch(images=images, labels=torch.randint(max(1, recipe.data.classes), (count,), generator=generator))
