"""The periodic work of a run: status, metrics and health, sample grids, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from framework.checkpoint import Checkpoint, CheckpointError, Writer
from framework.describe import describe, science, science_hash
from framework.growth import segment_at
from framework.quantities import format_bytes, format_count
from framework.recipe import Recipe
from framework.runtime.health import FiniteGuard
from framework.runtime.memory import used_bytes
from framework.runtime.session import Session
from framework.runtime.straggling import Lap, Stragglers, enough
from framework.runtime.watchdog import Watchdog
from framework.sentinels import Verdict
from framework.tracking import NullTracker, Tracker
from framework.tracking.kept import LOCATION_TAG
from framework.tracking.system import SystemSampler
from framework.train.console import Status, short
from framework.train.drift import check_drift
from framework.train.evaluating import Evaluator
from framework.train.fitting import Cut
from framework.train.loop import Duty
from framework.train.rollback import Course, put_beside, records_beside
from framework.train.samples import SampleGrids
from framework.train.sentry import Sentry
from framework.train.state import TrainingState
from framework.train.tracked import log_generator
from framework.train.window import Window

log = logging.getLogger("framework")


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
    sentry: Sentry
    grids: SampleGrids
    evaluator: Evaluator | None = None
    phase: str = "train"
    """What the status line calls this part of the run."""
    cut: Cut | None = None
    """How batches were cut when the processes were most; goes into checkpoints."""
    course: Course = field(default_factory=Course)
    """What rollbacks have changed; goes into checkpoints."""
    save_seconds: float = 0.0
    sampled_at: int = -1
    saved_at: int = -1
    on_disk: bool | None = True
    """Whether the last save succeeded; None while it is not known."""
    failed_saves: int = 0
    """So far in this launch."""
    skipped_samples: float = 0.0

    def table(
        self, *, log_every_images: int, sample_every_images: int, save_every_images: int, eval_every_images: int | None
    ) -> tuple[Duty, ...]:
        """The periodic work in the order in which it is done."""
        return (
            Duty(name="report", every_images=log_every_images, run=self.report, at_end=True),
            Duty(name="judge", every_images=log_every_images, run=self.sentry.judge),
            Duty(name="sample", every_images=sample_every_images, run=self.sample),
            Duty(name="save", every_images=save_every_images, run=self.save),
            Duty(name="evaluate", every_images=eval_every_images, run=self.evaluate),
        )

    def report(self, images: int) -> None:
        """Average the scores over processes (a collective), log them and start a new window."""
        scores = self.window.scores.means(device=self.session.device)
        seconds = time.monotonic() - self.window.begun
        seen = images - self.window.first_image
        laps = self._laps(wait_share=self.window.wait_seconds / seconds)
        self.skipped_samples += self.session.sum_over_ranks(self.window.skipped_samples)
        health, changed = self._health(images, scores)
        if self.session.is_main:
            by_rank, warnings = self.stragglers.observe(laps)
            self.tracker.metrics(
                scores
                | self._learning_rates(images)
                | by_rank
                | health
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
            for said in (*warnings, *changed):
                self.status.say(str(said))
            for verdict in self.sentry.standing:  # the journal keeps what changes
                name, state = verdict.sentinel.signal, verdict.health.name
                self.tracker.health(name, state, images=images, reason=verdict.reason, remedy=verdict.remedy)
        self.save_seconds = 0.0
        self.window.reset(images=images)

    def _health(self, images: int, scores: Mapping[str, float]) -> tuple[dict[str, float], list[Verdict]]:
        """The sentry's metrics, and the verdicts that changed (a collective)."""
        growth = self.evaluator.take_distance_growth() if self.evaluator else None
        skipped = self.guard.skipped_steps
        return self.sentry.observe(
            images, scores, steps=self.window.steps, skipped_steps=skipped, distance_growth=growth
        )

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
        factor = self.course.slowed(segment_at(self.recipe.segments(), images)).lr_factor
        return {f"lr/{letter}": p.optimizer.lr * p.schedule.at(images) * factor for letter, p in players.items()}

    def sample(self, images: int) -> None:
        """The grid of fixed latents from the averaged generator, one class per column."""
        if self.sampled_at != images:
            self.sampled_at = images
            self.grids.show_samples(images)

    def save(self, images: int) -> None:
        """Snapshot the state; files are written in the background.

        If the save before this one failed, training has gone on and this one is the second attempt: it is waited for.

        Raises:
            CheckpointError: the second save in a row failed; earlier checkpoints are untouched.
        """
        if self.saved_at == images and self.on_disk is not False:
            return
        begun = time.monotonic()
        again = not self.settle()
        record = {
            "players": self.state.record(),
            "skipped_steps": self.guard.skipped_steps,
            "skipped_samples": self.skipped_samples + self.session.sum_over_ranks(self.window.skipped_samples),
            "window": self.window.state(self.session),
            "science_hash": science_hash(self.recipe),
            "data": {"fingerprint": self.stream.fingerprint, "count": self.stream.count},
            "cut": asdict(self.cut) if self.cut else None,
            "health": self.sentry.state(),
            "rollbacks": self.course.state(),
            "evaluation": self.evaluator.state() if self.evaluator else None,
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
        self.saved_at, self.on_disk = images, None

    def evaluate(self, images: int) -> None:
        """The metrics of the averaged generator. A state that is measured is saved too, or it could not be the best."""
        if self.evaluator is not None:
            self.save(images)
            self.evaluator.evaluate(images, checkpoint=self.checkpoints / str(images), settle=self.settle)

    def settle(self) -> bool:
        """Wait for the former save; whether it succeeded, the same on every process, is also told, once."""
        if self.on_disk is not None:
            return self.on_disk
        try:
            self.writer.wait()
        except CheckpointError as error:
            self.failed_saves += 1
            self.on_disk = False
            if self.session.is_main:
                log.warning("%s; training goes on without it", error)
            return False
        self.on_disk = True
        self._announce()
        return True

    def _announce(self) -> None:
        """Say that the last save is on disk."""
        if self.session.is_main and self.saved_at >= 0:
            location = self.checkpoints / str(self.saved_at)
            inside = location.relative_to(self.checkpoints.parent)  # a run can be moved
            self.tracker.tags({LOCATION_TAG: inside.as_posix(), "framework.checkpoint_images": self.saved_at})
            self.status.say(f"checkpoint at {format_count(self.saved_at)} images: {short(location)}")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up what a checkpoint says besides tensors; what was evaluated, the evaluator was opened with."""
        record = checkpoint.record
        self.guard.begin(images=checkpoint.images, skipped_steps=record["skipped_steps"])
        self.cut = Cut(**record["cut"]) if record.get("cut") else None
        self.course = Course.restored(record.get("rollbacks", ()))
        self.sentry.load_state(record.get("health", {}), skipped_steps=record["skipped_steps"])
        # What follows is newer than the format: an older checkpoint begins a new window.
        self.skipped_samples = record.get("skipped_samples", 0.0)
        self.window.restore(record.get("window", {}), rank=self.session.rank, world=self.session.world)

    def go_back(self, checkpoint: Checkpoint, course: Course) -> None:
        """Take up a checkpoint that the run returns to on another course, and save the course there.

        Raises:
            CheckpointError: the course cannot be saved, twice; the checkpoint is untouched.
        """
        self.restore(checkpoint)
        if self.evaluator is not None:
            self.evaluator.restore(checkpoint)
        measured = records_beside(checkpoint.path) if self.session.is_main else {}
        self.course = course
        images, last = checkpoint.images, course.rollbacks[-1]
        self.status.say(f"back to {format_count(images)} images: {last.reason}")
        self.status.say(f"rollback {len(course.rollbacks)}: learning rates times {course.lr_factor:g}, data goes on")
        self.tracker.rolled_back(images=images, from_images=last.from_images)
        self.sampled_at = self.saved_at = -1
        self.save(images)
        if not self.settle():
            self.save(images)
            self.settle()
        put_beside(self.checkpoints / str(images), measured)

    def finish_phase(self, images: int) -> None:
        """Between two segments of a growing run: a checkpoint at the boundary, and what memory is still held."""
        self.save(images)
        memory = used_bytes(self.session.device)
        if self.session.is_main:
            self.tracker.metrics({"perf/memory_after_phase_bytes": float(memory)}, images=images)
            self.status.say(
                f"{self.phase}: ended at {format_count(images)} images, memory in use {format_bytes(memory)}"
            )

    def finish(self, images: int) -> None:
        """The end of a launch: whatever is pending is drawn and saved, and the checkpoint is on disk.

        A launch that was stopped between two points of its log leaves its scores to the next, in the checkpoint.
        """
        self.sample(images)
        if images >= self.recipe.images:
            self.evaluate(images)
        self.save(images)
        self.writer.wait()
        self.session.barrier()
        if self.on_disk is None:
            self._announce()
        if self.session.is_main:
            log_generator(self.tracker, self.checkpoints / str(images), self.recipe)
        self.tracker.flush()
