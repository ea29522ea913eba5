"""The periodic work of a run: the table that the loop goes through, and what is done at a run's turning points."""

from __future__ import annotations

from dataclasses import dataclass

from framework.checkpoint import Checkpoint
from framework.runtime.watchdog import Progress
from framework.train.frames import GameRecorder
from framework.train.health import Recovery, put_beside, records_beside
from framework.train.loop import PeriodicTask
from framework.train.reporting import Reporter
from framework.train.samples import SampleGrids
from framework.train.saving import RunRecord, Saver
from framework.train.tracking import log_generator
from framework.utils.quantities import format_count


@dataclass(kw_only=True)
class PeriodicTasks:
    """All periodic work of a run; `table` is what the loop sees."""

    record: RunRecord
    reporter: Reporter
    saver: Saver
    grids: SampleGrids
    game: GameRecorder
    progress: Progress
    """The watchdog's notes on what this process is doing."""
    sampled_at: int = -1
    """The clock of the last sample grid; -1 before the first."""

    def table(
        self, *, log_every_images: int, sample_every_images: int, save_every_images: int, eval_every_images: int | None
    ) -> tuple[PeriodicTask, ...]:
        """Return the periodic work in the order in which it is done; None or 0 images mean never."""
        return (
            PeriodicTask(name="report", every_images=log_every_images, run=self.reporter.report, at_end=True),
            PeriodicTask(
                name="judge", every_images=log_every_images, run=self.record.health_monitor.raise_if_collapsed
            ),
            PeriodicTask(name="sample", every_images=sample_every_images, run=self.sample),
            # Before a checkpoint, which a resumed run takes to have all frames up to its clock.
            PeriodicTask(name="frame", every_images=None, run=self.game.record, clocks=self.game.clocks),
            PeriodicTask(name="save", every_images=save_every_images, run=self.saver.save),
            PeriodicTask(name="evaluate", every_images=eval_every_images, run=self.evaluate),
        )

    def sample(self, images_seen: int) -> None:
        """Draw the grid of fixed latents from the averaged generator, one class per column; once for a clock."""
        if self.sampled_at != images_seen:
            self.sampled_at = images_seen
            self.grids.show_samples(images_seen)

    def evaluate(self, images_seen: int) -> None:
        """Measure the averaged generator, if the run has an evaluator (a collective).

        The state that is measured is saved too, otherwise it could not be kept as the best.
        """
        evaluator = self.record.evaluator
        if evaluator is not None:
            self.saver.save(images_seen)
            evaluator.evaluate(images_seen, checkpoint=self.saver.folder / str(images_seen), settle=self.saver.settle)

    def go_back(self, checkpoint: Checkpoint, recovery: Recovery) -> None:
        """Take up a checkpoint that the run returns to on another course, and save the course there (a collective).

        Raises:
            CheckpointError: the course cannot be saved, twice; the checkpoint is untouched.
        """
        record, reporter = self.record, self.reporter
        # Take up what the checkpoint says, and keep what was measured of it.
        record.restore(checkpoint)
        if record.evaluator is not None:
            record.evaluator.restore(checkpoint)
        measured = records_beside(checkpoint.path) if record.session.is_main else {}
        # The new course begins.
        record.recovery = recovery
        images, last = checkpoint.images_seen, recovery.rollbacks[-1]
        self.game.go_back(images)
        reporter.status.say(f"back to {format_count(images)} images: {last.reason}")
        reporter.status.say(
            f"rollback {len(recovery.rollbacks)}: learning rates times {recovery.lr_factor:g}, data goes on"
        )
        reporter.tracker.rolled_back(images_seen=images, from_images=last.from_images)
        # Before the first step, so that a crash cannot undo it.
        self.sampled_at = -1
        self.saver.save_anew(images)
        put_beside(self.saver.folder / str(images), measured)

    def finish_phase(self, images_seen: int) -> None:
        """Save at the boundary between two segments of a growing run, and report the memory that is still held."""
        self.saver.save(images_seen)
        self.reporter.report_phase(images_seen)

    def finish(self, images_seen: int) -> None:
        """End a launch: draw and measure what is due, save, and wait until the checkpoint is on disk (a collective).

        A launch that was stopped between two points of its log leaves its scores to the next, in the checkpoint.

        Raises:
            CheckpointError: the checkpoint could not be written; earlier ones are untouched.
        """
        self.sample(images_seen)
        if images_seen >= self.record.recipe.images:
            self.evaluate(images_seen)
        self.saver.finish(images_seen)
        tracker = self.reporter.tracker
        if self.record.session.is_main:
            log_generator(tracker, self.saver.folder / str(images_seen), self.record.recipe)
            if cost := self.game.finish(tracker):
                self.reporter.status.say(cost)
        tracker.flush()
