"""Scores and times between two points of the log.

They are part of checkpoints: a run that was stopped or killed between two points, and is resumed, writes the same
points as an undisturbed one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from framework.games.metrics import Scores
from framework.runtime.session import Session
from framework.runtime.straggling import Pace


class Window:
    """The scores and times since the last report.

    Attributes:
        scores: means so far; restored by a resume.
        steps: number of steps; restored by a resume.
        skipped_samples: damaged samples that this process replaced in this launch since the last report.
        first_image: the clock at the last report, or when this launch began.
        begun: `time.monotonic()` at `first_image`.
        wait_seconds: time spent waiting for data since then.
    """

    def __init__(self, *, pace: Pace) -> None:
        self.pace = pace
        self.reset(images=0)

    def reset(self, *, images: int) -> None:
        """Begin a new window."""
        self.scores, self.steps, self.skipped_samples = Scores(), 0, 0
        self.begin(images=images)

    def begin(self, *, images: int) -> None:
        """Begin to time at this clock; scores go on."""
        self.begun, self.first_image, self.wait_seconds = time.monotonic(), images, 0.0

    def add(self, scores: Scores, *, wait_seconds: float, skipped_samples: int) -> None:
        """Add one step: its scores, the time it waited for data, and the samples replaced in it."""
        self.scores.merge(scores)
        self.wait_seconds += wait_seconds
        self.skipped_samples += skipped_samples
        self.steps += 1
        self.pace.probe()

    def state(self, session: Session) -> dict[str, Any]:
        """Return what a checkpoint records, as JSON: steps, and sum and weight by score and rank (a collective).

        The sums are those of single processes and not their total, because only then does a resumed run round as an
        undisturbed one. Numbers are written in hexadecimal, which is exact and has infinity.
        """
        sums = self.scores.sums()
        rows = session.gather([number for pair in sums.values() for number in pair]) if sums else []
        scores = {
            name: [[row[2 * place].hex(), row[2 * place + 1].hex()] for row in rows] for place, name in enumerate(sums)
        }
        return {"steps": self.steps, "scores": scores}

    def restore(self, state: Mapping[str, Any], *, rank: int, world: int) -> None:
        """Restore what `state` returned on any number of processes; from an empty mapping, begin anew."""
        self.reset(images=0)
        self.steps = state.get("steps", 0)
        self.scores = Scores.restored(
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
