"""Steps that must not be taken: counting non-finite losses and gradients, and giving up when they persist."""

from __future__ import annotations

from framework.errors import FrameworkError


class TrainingDiverged(FrameworkError):
    """Too many steps in a row had a non-finite loss or gradient."""


class FiniteGuard:
    """Counts skipped steps; every process sees the same verdicts, because engines vote on them."""

    def __init__(self, *, most_in_a_row: int, skipped_steps: int = 0) -> None:
        self.most_in_a_row = most_in_a_row
        self.skipped_steps = skipped_steps
        self.in_a_row = 0

    def observe(self, *, finite: bool, images: int) -> None:
        """Note one step.

        Raises:
            TrainingDiverged: `most_in_a_row` steps in a row were skipped.
        """
        if finite:
            self.in_a_row = 0
            return
        self.skipped_steps += 1
        self.in_a_row += 1
        if self.in_a_row >= self.most_in_a_row:
            raise TrainingDiverged(
                f"{self.in_a_row} steps in a row had a non-finite loss or gradient (at {images:,} images); their "
                "updates were not applied. Resume from the last checkpoint with a lower learning rate or "
                "--precision fp32, and look at grad_norm/* in the journal to see where it began."
            )
