"""What happened since the last point of the log. It goes into checkpoints: a run that was stopped or killed between two
points, and is resumed, writes the same points as an undisturbed one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from framework.games.scores import Scores
from framework.runtime.session import Session
from framework.runtime.straggling import Pace


class Window:
    """Scores and times since the last tick.

    Attributes:
        scores: means so far; restored by a resume.
        steps: restored by a resume.
        skipped_samples: of this process, since this launch or the last tick began.
        first_image: the clock when this launch or the last tick began; so are all times.
    """

    def __init__(self, *, pace: Pace) -> None:
        self.pace = pace
        self.reset(images=0)

    def reset(self, *, images: int) -> None:
        """Begin a new window."""
        self.scores, self.steps, self.skipped_samples = Scores(), 0, 0
        self.begin(images=images)

    def begin(self, *, images: int) -> None:
        """Time what comes from now on; scores go on."""
        self.begun, self.first_image, self.wait_seconds = time.monotonic(), images, 0.0

    def add(self, scores: Scores, *, wait_seconds: float, skipped_samples: int) -> None:
        """Add one step."""
        self.scores.merge(scores)
        self.wait_seconds += wait_seconds
        self.skipped_samples += skipped_samples
        self.steps += 1
        self.pace.probe()

    def state(self, session: Session) -> dict[str, Any]:
        """Steps, and by name and rank the sum of a score and its weights, for checkpoints (a collective).

        Sums of single processes and not their total: only then does a resumed run round as an undisturbed one does.
        Numbers are written in hexadecimal, which is exact and knows infinity.
        """
        sums = self.scores.sums()
        rows = session.gather([number for pair in sums.values() for number in pair]) if sums else []
        scores = {
            name: [[row[2 * place].hex(), row[2 * place + 1].hex()] for row in rows] for place, name in enumerate(sums)
        }
        return {"steps": self.steps, "scores": scores}

    def restore(self, state: Mapping[str, Any], *, rank: int, world: int) -> None:
        """Go on from what `state` returned on any number of processes; from an empty mapping, begin anew."""
        self.reset(images=0)
        self.steps = state.get("steps", 0)
        self.scores = Scores.restored(
            {
                name: _own([(float.fromhex(total), float.fromhex(weight)) for total, weight in row], rank, world)
                for name, row in state.get("scores", {}).items()
            }
        )


def _own(by_rank: list[tuple[float, float]], rank: int, world: int) -> tuple[float, float]:
    """This process's sum and weight. On another number of processes rank 0 goes on with everybody's."""
    if len(by_rank) == world:
        return by_rank[rank]
    if rank:
        return 0.0, 0.0
    scale = world / len(by_rank)  # in every step the weights of all processes add up to their number
    return scale * sum(total for total, _ in by_rank), scale * sum(weight for _, weight in by_rank)
