"""The points of a run's log: losses, learning rates, speed, health and stragglers, measured over one window."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from framework.recipe.growth import segment_at
from framework.runtime.memory import used_bytes
from framework.runtime.straggling import RankTiming, Stragglers, enough
from framework.runtime.watchdog import Watchdog
from framework.sentinels import Alert
from framework.tracking import NullTracker, Tracker
from framework.tracking.system import SystemSampler
from framework.train.console import Status
from framework.train.saving import RunRecord, Saver
from framework.utils.quantities import format_bytes, format_count


@dataclass(kw_only=True)
class Reporter:
    """Measures a window of training and writes it to the tracker and the status line."""

    record: RunRecord
    saver: Saver
    tracker: Tracker | NullTracker
    status: Status
    system: SystemSampler
    watchdog: Watchdog
    stragglers: Stragglers
    phase: str = "train"
    """The name of this part of the run in the status line."""

    def report(self, images_seen: int) -> None:
        """Write one point of the log and begin the next window (a collective)."""
        record, session = self.record, self.record.session
        window = record.window
        # Average over processes, and learn how long each of them worked and waited.
        metrics = window.metrics.means(device=session.device)
        seconds = time.monotonic() - window.begun
        timings = self._timings(wait_share=window.wait_seconds / seconds)
        record.skipped_samples += session.sum_over_ranks(window.skipped_samples)
        # Look at the health of the run.
        health, changed = self._health(images_seen, metrics)
        # Rank 0 writes: metrics, the status line, what is new, and verdicts for the journal.
        if session.is_main:
            by_rank, warnings = self.stragglers.observe(timings)
            self.tracker.metrics(
                metrics
                | self._learning_rates(images_seen)
                | by_rank
                | health
                | self._progress(images_seen, seconds=seconds)
                | self.system.sample(),
                images_seen=images_seen,
            )
            self.status.report(images_seen, metrics, phase=self.phase)
            for said in (*warnings, *changed):
                self.status.say(str(said))
            for alert in record.health_monitor.standing:  # the journal keeps what changes
                name, state = alert.sentinel.signal, alert.health.name
                self.tracker.health(name, state, images_seen=images_seen, reason=alert.reason, remedy=alert.remedy)
        # The next window.
        self.saver.waited_seconds = 0.0
        window.reset(images_seen=images_seen)

    def report_phase(self, images_seen: int) -> None:
        """Say that a phase of a growing run has ended, and log how many bytes of memory are still held."""
        session = self.record.session
        memory = used_bytes(session.device)
        if session.is_main:
            self.tracker.metrics({"perf/memory_after_phase_bytes": float(memory)}, images_seen=images_seen)
            self.status.say(
                f"{self.phase}: ended at {format_count(images_seen)} images, memory in use {format_bytes(memory)}"
            )

    def _progress(self, images_seen: int, *, seconds: float) -> dict[str, float]:
        """Return speed, progress, and what was skipped or failed, for a window of so many seconds."""
        seen = images_seen - self.record.window.first_image
        return {
            "perf/images_per_second": seen / seconds,
            "perf/seconds_per_kimg": 1000.0 * seconds / seen,
            "perf/save_stall_share": self.saver.waited_seconds / seconds,
            "progress/kimg": images_seen / 1000.0,
            "progress/epoch": images_seen / self.record.stream.count,
            "health/skipped_samples": self.record.skipped_samples,
            "health/skipped_steps": float(self.record.guard.skipped_steps),
            "health/failed_saves": float(self.saver.failed_saves),
        }

    def _health(self, images_seen: int, metrics: Mapping[str, float]) -> tuple[dict[str, float], list[Alert]]:
        """Return the health monitor's metrics, and the verdicts that changed (a collective)."""
        evaluator, skipped = self.record.evaluator, self.record.guard.skipped_steps
        growth = evaluator.take_distance_growth() if evaluator else None
        return self.record.health_monitor.observe(
            images_seen, metrics, steps=self.record.window.steps, skipped_steps=skipped, distance_growth=growth
        )

    def _timings(self, *, wait_share: float) -> list[RankTiming]:
        """Return what every process did since the last report, by rank (a collective)."""
        timer = self.record.window.timer
        work_count, work_seconds, work_error_seconds = timer.measured()
        own = RankTiming(
            wait_share=wait_share,
            work_count=work_count,
            work_seconds=work_seconds,
            work_error_seconds=work_error_seconds,
            trip_seconds=self.watchdog.take_trip_seconds(),
        )
        timings = [RankTiming.from_row(row) for row in self.record.session.gather(own.row())]
        if enough(timings):
            timer.reset()
        return timings

    def _learning_rates(self, images_seen: int) -> dict[str, float]:
        """Return both players' learning rates at a clock, as schedules, growth and rollbacks make them."""
        recipe = self.record.recipe
        players = {"D": recipe.discriminator, "G": recipe.generator}
        factor = self.record.recovery.slowed(segment_at(recipe.segments(), images_seen)).lr_factor
        return {f"lr/{letter}": p.optimizer.lr * p.schedule.at(images_seen) * factor for letter, p in players.items()}
