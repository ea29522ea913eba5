"""The checkpoints of a run: what they record besides tensors, and how they are written and followed to the disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from framework.checkpoint import Checkpoint, CheckpointError, Writer
from framework.recipe import Recipe
from framework.recipe.description import science, science_hash
from framework.runtime.health import FiniteGuard
from framework.runtime.seeding import NEW_RUNS, DrawsVersion
from framework.runtime.session import Session
from framework.tracking import NullTracker, Tracker
from framework.tracking.checkpoints import LOCATION_TAG
from framework.train.console import Status, short
from framework.train.drift import check_drift
from framework.train.evaluation import Evaluator
from framework.train.folder import described
from framework.train.health import HealthMonitor, Recovery
from framework.train.loop import Window
from framework.train.memory import MicroBatching
from framework.train.state import TrainingState
from framework.utils.quantities import format_count

log = logging.getLogger("framework")


class Stream(Protocol):
    """The data stream as checkpoints describe it: how many images it has, and what identifies them."""

    count: int
    fingerprint: str

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes; they may be missing."""
        ...


@dataclass(kw_only=True)
class RunRecord:
    """The state of a run besides tensors: every checkpoint records it, and a resumed run takes it up again."""

    session: Session
    recipe: Recipe
    state: TrainingState
    stream: Stream
    window: Window
    guard: FiniteGuard
    health_monitor: HealthMonitor
    draws_version: DrawsVersion = NEW_RUNS
    """The version of the random numbers with which the run began."""
    evaluator: Evaluator | None = None
    micro_batching: MicroBatching | None = None
    """The cutting of batches when there were most processes; None before the first step."""
    recovery: Recovery = field(default_factory=Recovery)
    """The effect of the rollbacks so far."""
    skipped_samples: float = 0.0
    """The number of damaged samples that all processes have replaced, up to the last point of the log."""

    def contents(self) -> dict[str, Any]:
        """Return what a checkpoint records, as JSON and the same on every process (a collective)."""
        return {
            "players": self.state.record(),
            "draws_version": self.draws_version,
            "skipped_steps": self.guard.skipped_steps,
            "skipped_samples": self.skipped_samples + self.session.sum_over_ranks(self.window.skipped_samples),
            "window": self.window.state(self.session),
            "science_hash": science_hash(self.recipe),
            "data": {"fingerprint": self.stream.fingerprint, "count": self.stream.count},
            "cut": asdict(self.micro_batching) if self.micro_batching else None,
            "health": self.health_monitor.state(),
            "rollbacks": self.recovery.state(),
            "evaluation": self.evaluator.state() if self.evaluator else None,
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up what a checkpoint records, except for evaluations, which the evaluator restores itself."""
        record = checkpoint.record
        self.guard.begin(images_seen=checkpoint.images_seen, skipped_steps=record["skipped_steps"])
        self.micro_batching = MicroBatching(**record["cut"]) if record.get("cut") else None
        self.recovery = Recovery.restored(record.get("rollbacks", ()))
        self.health_monitor.load_state(record.get("health", {}), skipped_steps=record["skipped_steps"])
        # What follows is newer than the format: an older checkpoint begins a new window.
        self.skipped_samples = record.get("skipped_samples", 0.0)
        self.window.restore(record.get("window", {}), rank=self.session.rank, world=self.session.world)


@dataclass(kw_only=True)
class Saver:
    """Saves a run: copies the state at once, lets the files be written in the background, and hears how that went."""

    record: RunRecord
    writer: Writer
    folder: Path
    """The folder of all checkpoints of the run."""
    tracker: Tracker | NullTracker
    status: Status
    waited_seconds: float = 0.0
    """The time that training has waited for saves since the last point of the log."""
    saved_at: int = -1
    """The clock of the last save; -1 before the first."""
    on_disk: bool | None = True
    """Whether the last save succeeded; None while it is not known."""
    failed_saves: int = 0
    """The number of failed saves in this launch."""

    def save(self, images_seen: int) -> None:
        """Copy the state and let the files be written in the background; once for a clock (a collective).

        If the save before this one failed, training has gone on and this one is the second attempt: it is waited for.

        Raises:
            CheckpointError: the second save in a row failed; earlier checkpoints are untouched.
            DriftError: processes hold different copies of the same state; nothing is written.
        """
        if self.saved_at == images_seen and self.on_disk is not False:
            return
        begun = time.monotonic()
        # One save at a time.
        again = not self.settle()
        # What is different on different processes must not be mixed in one checkpoint.
        record, state, session = self.record.contents(), self.record.state, self.record.session
        check_drift(state, record, session=session, images_seen=images_seen)
        # Copy now; files are written while training goes on.
        recipe = self.record.recipe
        documents: dict[str, Any] = {
            "recipe.json": described(recipe) | {"class_names": list(self.record.stream.class_names)},
            "science.json": science(recipe),
        }
        self.writer.save(
            images_seen, state.slices(own=True, buffers=session.is_main), documents=documents, record=record
        )
        if again:
            self.writer.wait()
        self.waited_seconds += time.monotonic() - begun
        self.saved_at, self.on_disk = images_seen, None

    def settle(self) -> bool:
        """Wait for the last save on all processes, and say once how it went.

        Returns:
            Whether it succeeded, the same on every process.
        """
        if self.on_disk is not None:
            return self.on_disk
        try:
            self.writer.wait()
        except CheckpointError as error:
            self.failed_saves += 1
            self.on_disk = False
            if self.record.session.is_main:
                log.warning("%s; training goes on without it", error)
            return False
        self.on_disk = True
        self._announce()
        return True

    def save_anew(self, images_seen: int) -> None:
        """Save once more at a clock that has a checkpoint, and wait until it is on disk (a collective).

        Raises:
            CheckpointError: it failed twice; the former checkpoint is untouched.
        """
        self.saved_at = -1
        self.save(images_seen)
        if not self.settle():
            self.save(images_seen)
            self.settle()

    def finish(self, images_seen: int) -> None:
        """Save at the end of a launch, and wait until every process's files are on disk (a collective).

        Raises:
            CheckpointError: the checkpoint could not be written; earlier ones are untouched.
        """
        self.save(images_seen)
        self.writer.wait()
        self.record.session.barrier()
        if self.on_disk is None:
            self._announce()

    def _announce(self) -> None:
        """Say that the last save is on disk."""
        if self.record.session.is_main and self.saved_at >= 0:
            location = self.folder / str(self.saved_at)
            inside = location.relative_to(self.folder.parent)  # a run can be moved
            self.tracker.tags({LOCATION_TAG: inside.as_posix(), "framework.checkpoint_images": self.saved_at})
            self.status.say(f"checkpoint at {format_count(self.saved_at)} images: {short(location)}")
