"""The training loop: one clock, one game, and a visible table of periodic work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from framework.games.alternating import AlternatingGame
from framework.games.metrics import Scores
from framework.runtime.health import FiniteGuard
from framework.runtime.seeding import no_draws, seed_torch
from framework.runtime.signals import StopVote
from framework.runtime.watchdog import DATA, STEP, Progress
from framework.train.clock import crossed
from framework.train.window import Window

Outcome = Literal["finished", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Duty:
    """Periodic work: `run(images)` is called after the step in which the clock crosses a multiple of `every_images`."""

    name: str
    every_images: int | None
    run: Callable[[int], None]
    at_end: bool = False
    """Whether it is also due after the last step of all; not after one that a signal makes the last of this launch."""


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
    game: AlternatingGame,
    batches: Iterator,
    *,
    images: int,
    total_images: int,
    seed: int,
    duties: tuple[Duty, ...],
    window: Window,
    guard: FiniteGuard,
    stop: StopVote,
    progress: Progress,
) -> tuple[Outcome, int]:
    """Play until `total_images` have been seen or a signal arrives.

    Args:
        game: played one step at a time.
        batches: real images and labels, one global batch's part of this process at a time.
        images: the clock: real images seen so far.
        duties: periodic work, in the order in which it is done.
        window: where scores and times are gathered until the next report.
        guard: counts steps that were not finite.

    Returns:
        Why it ended, and the clock.

    Raises:
        TrainingDiverged: too many steps in a row were not finite.
        Collapse: a duty found that the run has collapsed.
        FrameworkError: something in a step drew from torch's generator, or a duty failed.
    """
    source = Waiting(batches, progress)
    window.begin(images=images)
    progress.begin(images=images)
    while images < total_images:
        # One step of the game; the seed is for duties, because nothing in a step may draw from it.
        seed_torch(seed, images)
        waited, skipped = source.seconds, source.skipped
        with no_draws(game.device, images=images):
            scores, finite = game.step(source, images=images)
        # Advance the clock, and gather what happened.
        before, images = images, images + game.step_images
        window.add(
            scores if finite else Scores(),
            wait_seconds=source.seconds - waited,
            skipped_samples=source.skipped - skipped,
        )
        progress.stepped(images=images)
        guard.observe(finite=finite, images=images)
        # Periodic work.
        for duty in duties:
            if crossed(duty.every_images, before=before, after=images) or (duty.at_end and images >= total_images):
                progress.beat(f"the duty `{duty.name}`", long=True)
                duty.run(images)
        progress.beat(STEP)
        # All processes stop after the same step.
        if stop.poll() and images < total_images:
            return "stopped", images
    return "finished", images
