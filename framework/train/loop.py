"""The training loop: one clock (real images seen), one game, and a visible table of periodic work.

Metrics and times between two points of the log are part of checkpoints (`Window`): a run that was stopped or killed
between two points, and is resumed, writes the same points as an undisturbed one.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from framework.games.metrics import Metrics
from framework.games.runner import GameRunner
from framework.runtime.health import FiniteGuard
from framework.runtime.seeding import no_draws, seed_torch
from framework.runtime.session import Session
from framework.runtime.signals import StopVote
from framework.runtime.straggling import StepTimer
from framework.runtime.watchdog import DATA, STEP, Progress


def crossed(every_images: int | None, *, before: int, after: int) -> bool:
    """Return whether a multiple of `every_images` lies in (before, after]; never when it is None or 0."""
    return every_images is not None and every_images > 0 and after // every_images > before // every_images


class Window:
    """The scores and times since the last report.

    Attributes:
        metrics: means so far; restored by a resume.
        steps: number of steps; restored by a resume.
        skipped_samples: damaged samples that this process replaced in this launch since the last report.
        first_image: the clock at the last report, or when this launch began.
        begun: `time.monotonic()` at `first_image`.
        wait_seconds: time spent waiting for data since then.
    """

    def __init__(self, *, timer: StepTimer) -> None:
        self.timer = timer
        self.reset(images_seen=0)

    def reset(self, *, images_seen: int) -> None:
        """Begin a new window."""
        self.metrics, self.steps, self.skipped_samples = Metrics(), 0, 0
        self.begin(images_seen=images_seen)

    def begin(self, *, images_seen: int) -> None:
        """Begin to time at this clock; scores go on."""
        self.begun, self.first_image, self.wait_seconds = time.monotonic(), images_seen, 0.0

    def add(self, metrics: Metrics, *, wait_seconds: float, skipped_samples: int) -> None:
        """Add one step: its scores, the time it waited for data, and the samples replaced in it."""
        self.metrics.merge(metrics)
        self.wait_seconds += wait_seconds
        self.skipped_samples += skipped_samples
        self.steps += 1
        self.timer.probe()

    def state(self, session: Session) -> dict[str, Any]:
        """Return what a checkpoint records, as JSON: steps, and sum and weight by score and rank (a collective).

        The sums are those of single processes and not their total, because only then does a resumed run round as an
        undisturbed one. Numbers are written in hexadecimal, which is exact and has infinity.
        """
        sums = self.metrics.sums()
        rows = session.gather([number for pair in sums.values() for number in pair]) if sums else []
        metrics = {
            name: [[row[2 * place].hex(), row[2 * place + 1].hex()] for row in rows] for place, name in enumerate(sums)
        }
        return {"steps": self.steps, "scores": metrics}

    def restore(self, state: Mapping[str, Any], *, rank: int, world: int) -> None:
        """Restore what `state` returned on any number of processes; from an empty mapping, begin anew."""
        self.reset(images_seen=0)
        self.steps = state.get("steps", 0)
        self.metrics = Metrics.restored(
            {
                name: _own([(float.fromhex(total), float.fromhex(weight)) for total, weight in row], rank, world)
                for name, row in state.get("scores", {}).items()
            }
        )


def _own(by_rank: list[tuple[float, float]], rank: int, world: int) -> tuple[float, float]:
    """Return this process's sum and weight; on another number of processes rank 0 goes on with those of all."""
    if len(by_rank) == world:
        return by_rank[rank]
    if rank:
        return 0.0, 0.0
    scale = world / len(by_rank)  # in every step the weights of all processes add up to their number
    return scale * sum(total for total, _ in by_rank), scale * sum(weight for _, weight in by_rank)


Outcome = Literal["finished", "stopped"]


@dataclass(frozen=True, kw_only=True)
class PeriodicTask:
    """Periodic work: `run(images)` is called after the step in which the clock crosses a multiple of `every_images`."""

    name: str
    every_images: int | None
    run: Callable[[int], None]
    clocks: tuple[int, ...] = ()
    """Further clocks, in order: it is also due after the step that reaches one."""
    at_end: bool = False
    """Whether it is also due after the last step of all; not after one that a signal makes the last of this launch."""

    def is_due(self, *, before: int, after: int) -> bool:
        """Return whether a step from one clock to another calls for it."""
        reached = bisect_right(self.clocks, after) > bisect_right(self.clocks, before)
        return reached or crossed(self.every_images, before=before, after=after)


class Waiting:
    """Counts the seconds spent waiting for the next batch, and the samples that had to be replaced."""

    def __init__(self, batches: Iterator, progress: Progress) -> None:
        self._batches, self._progress, self.seconds, self.skipped = batches, progress, 0.0, 0

    def __iter__(self) -> Waiting:
        return self

    def __next__(self):  # type: ignore[no-untyped-def]  # whatever the stream yields
        begun = time.monotonic()
        self._progress.beat(DATA)
        batch = next(self._batches)
        self._progress.beat(STEP)
        self.seconds += time.monotonic() - begun
        self.skipped += len(batch.skipped)
        return batch


def train(
    game: GameRunner,
    batches: Iterator,
    *,
    images_seen: int,
    total_images: int,
    seed: int,
    tasks: tuple[PeriodicTask, ...],
    window: Window,
    guard: FiniteGuard,
    stop: StopVote,
    progress: Progress,
) -> tuple[Outcome, int]:
    """Play until `total_images` have been seen or a signal arrives.

    Args:
        game: played one step at a time.
        batches: real images and labels, one global batch's part of this process at a time.
        images_seen: the clock: real images seen so far.
        tasks: periodic work, in the order in which it is done.
        window: where scores and times are gathered until the next report.
        guard: counts steps that were not finite.

    Returns:
        Why it ended, and the clock.

    Raises:
        TrainingDiverged: too many steps in a row were not finite.
        Collapse: a task found that the run has collapsed.
        FrameworkError: something in a step drew from torch's generator, or a task failed.
    """
    source = Waiting(batches, progress)
    window.begin(images_seen=images_seen)
    progress.begin(images_seen=images_seen)
    while images_seen < total_images:
        # One step of the game; the seed is for periodic tasks, because nothing in a step may draw from it.
        seed_torch(seed, images_seen)
        waited, skipped = source.seconds, source.skipped
        with no_draws(game.device, images_seen=images_seen):
            metrics, finite = game.step(source, images_seen=images_seen)
        # Advance the clock, and gather what happened.
        before, images_seen = images_seen, images_seen + game.images_of_step(images_seen)
        window.add(
            metrics if finite else Metrics(),
            wait_seconds=source.seconds - waited,
            skipped_samples=source.skipped - skipped,
        )
        progress.stepped(images_seen=images_seen)
        guard.observe(finite=finite, images_seen=images_seen)
        # Periodic work.
        for task in tasks:
            last = task.at_end and images_seen >= total_images
            if last or task.is_due(before=before, after=images_seen):
                progress.beat(f"the task `{task.name}`", long=True)
                task.run(images_seen)
        progress.beat(STEP)
        # All processes stop after the same step.
        if stop.poll() and images_seen < total_images:
            return "stopped", images_seen
    return "finished", images_seen
