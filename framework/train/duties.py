"""The periodic work of a run: status and metrics, sample grids, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from framework.checkpoint import CheckpointError, Writer
from framework.describe import describe, science, science_hash
from framework.engines.averaging import Average
from framework.growth import segment_at
from framework.networks import latent_size
from framework.networks.blocks.spectral import power_iteration
from framework.quantities import format_bytes, format_count
from framework.recipe import Recipe
from framework.runtime.health import FiniteGuard
from framework.runtime.memory import used_bytes
from framework.runtime.session import Session
from framework.runtime.straggling import Lap, Stragglers, enough
from framework.runtime.watchdog import Watchdog
from framework.sampling.generate import POWER_ITERATIONS, generate
from framework.sampling.latents import grid_labels, latents
from framework.tracking import NullTracker, Tracker
from framework.tracking.grids import image_grid
from framework.tracking.system import SystemSampler
from framework.train.console import Status, short
from framework.train.drift import check_drift
from framework.train.fitting import Cut
from framework.train.loop import Duty, Window
from framework.train.state import TrainingState
from framework.train.tracked import log_generator

log = logging.getLogger("framework")

GRID_ROWS = 5  # with ten columns MLflow's small card shows the whole grid
GRID_COLUMNS = 10


class Stream(Protocol):
    """What duties ask of the data stream."""

    count: int
    fingerprint: str

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes; may be empty."""
        ...


@dataclass(kw_only=True)
class Duties:
    """Everything periodic needs; `table` is what the loop sees."""

    session: Session
    recipe: Recipe
    state: TrainingState
    average: Average
    stream: Stream
    window: Window
    guard: FiniteGuard
    tracker: Tracker | NullTracker
    writer: Writer
    checkpoints: Path
    status: Status
    system: SystemSampler
    watchdog: Watchdog
    stragglers: Stragglers
    phase: str = "train"
    """What the status line calls this part of the run."""
    cut: Cut | None = None
    """How batches were cut when the processes were most; goes into checkpoints."""
    save_seconds: float = 0.0
    sampled_at: int = -1
    saved_at: int = -1
    failed_saves: int = 0
    """So far in this launch."""
    skipped_samples: float = 0.0

    def table(self, *, log_every_images: int, sample_every_images: int, save_every_images: int) -> tuple[Duty, ...]:
        """The periodic work in the order in which it is done."""
        return (
            Duty(name="report", every_images=log_every_images, run=self.report),
            Duty(name="sample", every_images=sample_every_images, run=self.sample),
            Duty(name="save", every_images=save_every_images, run=self.save),
        )

    def report(self, images: int) -> None:
        """Average the scores over processes (a collective), log them and start a new window."""
        scores = self.window.scores.means(device=self.session.device)
        seconds = time.monotonic() - self.window.begun
        seen = images - self.window.first_image
        laps = self._laps(wait_share=self.window.wait_seconds / seconds)
        self.skipped_samples += self.session.sum_over_ranks(self.window.skipped_samples)
        if self.session.is_main:
            by_rank, warnings = self.stragglers.observe(laps)
            self.tracker.metrics(
                scores
                | self._learning_rates(images)
                | by_rank
                | {
                    "perf/images_per_second": seen / seconds,
                    "perf/seconds_per_kimg": 1000.0 * seconds / seen,
                    "perf/save_stall_share": self.save_seconds / seconds,
                    "progress/kimg": images / 1000.0,
                    "progress/epoch": images / self.stream.count,
                    "health/skipped_samples": self.skipped_samples,
                    "health/skipped_steps": float(self.guard.skipped_steps),
                    "health/failed_saves": float(self.failed_saves),
                }
                | self.system.sample(),
                images=images,
            )
            self.status.report(images, scores, phase=self.phase)
            for warning in warnings:
                self.status.say(warning)
        self.save_seconds = 0.0
        self.window.reset(images=images)

    def _laps(self, *, wait_share: float) -> list[Lap]:
        """What every process did since the last report, by rank (a collective)."""
        work_count, work_seconds, work_error_seconds = self.window.pace.measured()
        own = Lap(
            wait_share=wait_share,
            work_count=work_count,
            work_seconds=work_seconds,
            work_error_seconds=work_error_seconds,
            trip_seconds=self.watchdog.take_trip_seconds(),
        )
        laps = [Lap.from_row(row) for row in self.session.gather(own.row())]
        if enough(laps):
            self.window.pace.reset()
        return laps

    def _learning_rates(self, images: int) -> dict[str, float]:
        players = {"D": self.recipe.discriminator, "G": self.recipe.generator}
        factor = segment_at(self.recipe.segments(), images).lr_factor
        return {f"lr/{letter}": p.optimizer.lr * p.schedule.at(images) * factor for letter, p in players.items()}

    def sample(self, images: int) -> None:
        """The grid of fixed latents from the averaged generator, one class per column."""
        if self.sampled_at == images:
            return
        self.sampled_at = images
        everyone = self.state.players["generator"].collective_forward
        if not (everyone or self.session.is_main):
            return
        columns = sample_columns(self.recipe)
        labels = grid_labels(rows=GRID_ROWS, columns=columns, classes=self.recipe.data.classes)
        with self.average.swapped_in() as network:
            power_iteration(network, steps=POWER_ITERATIONS)
            z_dim = latent_size(network)
            z = latents(seed=self.recipe.seed, count=GRID_ROWS * columns, z_dim=z_dim)
            pixels = generate(network, z, labels)
        if self.session.is_main:
            scale = self._scale() * (self.recipe.data.resolution // pixels.shape[-1])  # a growing generator is smaller
            names = self._column_names(labels, columns)
            grid = image_grid(pixels.numpy(), columns=columns, labels=names, scale=scale)
            self.tracker.image("samples/ema", grid, images=images)

    def show_reals(self, images: Tensor, labels: Tensor) -> None:
        """A grid of real images in the layout of the sample grids, for comparison."""
        columns = sample_columns(self.recipe)
        wanted = grid_labels(rows=GRID_ROWS, columns=columns, classes=self.recipe.data.classes)
        chosen = images[: GRID_ROWS * columns]
        if self.recipe.data.classes > columns:
            wanted = None  # more classes than a few hundred images can show in columns
        if wanted is not None:
            chosen = _arrange(images, labels, wanted)
        grid = image_grid(
            chosen.numpy(), columns=columns, labels=self._column_names(wanted, columns), scale=self._scale()
        )
        self.tracker.image("samples/real", grid, images=0)

    def _column_names(self, labels: Tensor | None, columns: int) -> list[str] | None:
        if labels is None:
            return None
        names = self.stream.class_names
        return [names[c] if c < len(names) else str(c) for c in labels[:columns].tolist()]

    def _scale(self) -> int:
        return max(1, 64 // self.recipe.data.resolution)

    def save(self, images: int) -> None:
        """Snapshot the state; files are written in the background.

        If the save before this one failed, training has gone on and this one is the second attempt: it is waited for.

        Raises:
            CheckpointError: the second save in a row failed; earlier checkpoints are untouched.
        """
        if self.saved_at == images:
            return
        begun = time.monotonic()
        again = not self._former_save_succeeded()
        record = {
            "players": self.state.record(),
            "skipped_steps": self.guard.skipped_steps,
            "science_hash": science_hash(self.recipe),
            "data": {"fingerprint": self.stream.fingerprint, "count": self.stream.count},
            "cut": asdict(self.cut) if self.cut else None,
        }
        check_drift(self.state, record, session=self.session, images=images)
        documents: dict[str, Any] = {
            "recipe.json": describe(self.recipe) | {"class_names": list(self.stream.class_names)},
            "science.json": science(self.recipe),
        }
        self.writer.save(
            images, self.state.pieces(own=True, buffers=self.session.is_main), documents=documents, record=record
        )
        if again:
            self.writer.wait()
        self.save_seconds += time.monotonic() - begun
        self.saved_at = images

    def _former_save_succeeded(self) -> bool:
        """Wait for it, with the same answer on every process; say that it is on disk, or that training goes on."""
        try:
            self.writer.wait()
        except CheckpointError as error:
            self.failed_saves += 1
            if self.session.is_main:
                log.warning("%s; training went on without it, and saves again now", error)
            return False
        self._announce()
        return True

    def _announce(self) -> None:
        """Say that the last save is on disk."""
        if self.session.is_main and self.saved_at >= 0:
            location = self.checkpoints / str(self.saved_at)
            self.tracker.tags({"framework.checkpoint": str(location), "framework.checkpoint_images": self.saved_at})
            self.status.say(f"checkpoint at {format_count(self.saved_at)} images: {short(location)}")

    def finish_phase(self, images: int) -> None:
        """Between two segments of a growing run: a checkpoint at the boundary, and what memory is still held."""
        if self.window.steps:
            self.report(images)
        self.save(images)
        memory = used_bytes(self.session.device)
        if self.session.is_main:
            self.tracker.metrics({"perf/memory_after_phase_bytes": float(memory)}, images=images)
            self.status.say(
                f"{self.phase}: ended at {format_count(images)} images, memory in use {format_bytes(memory)}"
            )

    def finish(self, images: int) -> None:
        """The last tick: whatever is pending is logged, drawn and saved, and the checkpoint is on disk."""
        if self.window.steps:
            self.report(images)
        self.sample(images)
        self.save(images)
        self.writer.wait()
        self.session.barrier()
        self._announce()
        if self.session.is_main:
            log_generator(self.tracker, self.checkpoints / str(images))
        self.tracker.flush()


def sample_columns(recipe: Recipe) -> int:
    """Columns of a sample grid."""
    return min(recipe.data.classes, GRID_COLUMNS) or GRID_COLUMNS


def _arrange(images: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Images (len(wanted), C, H, W) whose labels are `wanted`; white where a class has too few."""
    chosen = torch.full((len(wanted), *images.shape[1:]), 255, dtype=torch.uint8)
    for label in wanted.unique().tolist():
        places = (wanted == label).nonzero().flatten()
        found = (labels == label).nonzero().flatten()[: len(places)]
        chosen[places[: len(found)]] = images[found]
    return chosen
