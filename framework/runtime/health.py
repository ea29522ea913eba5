"""Counts the steps that were skipped for a non-finite loss or gradient, and gives up when they persist."""

from __future__ import annotations

from typing import Literal

from framework.utils.errors import FrameworkError

OnCollapse = Literal["warn", "rollback", "stop"]
"""The answer of a run to its collapse."""


class Collapse(FrameworkError):
    """Training has collapsed, so that going on makes no sense.

    Attributes:
        images_seen: the clock at which this was seen.
        onset_images: the clock at which all was well for the last time; checkpoints up to it are sound.
    """

    def __init__(self, message: str, *, images_seen: int, onset_images: int) -> None:
        super().__init__(message)
        self.images_seen, self.onset_images = images_seen, onset_images


class TrainingDiverged(Collapse):
    """Too many steps in a row had a non-finite loss or gradient."""


class FiniteGuard:
    """Counts skipped steps; every process counts alike, because engines vote on each step.

    Attributes:
        skipped_steps: steps skipped since the run began.
        in_a_row: steps skipped since the last finite one.
    """

    def __init__(self, *, most_in_a_row: int) -> None:
        self.most_in_a_row = most_in_a_row
        self.begin(images_seen=0, skipped_steps=0)

    def begin(self, *, images_seen: int, skipped_steps: int) -> None:
        """Go on from a checkpoint: its clock, and the steps skipped before it."""
        self.skipped_steps = skipped_steps
        self.in_a_row, self._finite_images = 0, images_seen

    def observe(self, *, finite: bool, images_seen: int) -> None:
        """Note one step.

        Raises:
            TrainingDiverged: `most_in_a_row` steps in a row were skipped.
        """
        if finite:
            self.in_a_row, self._finite_images = 0, images_seen
            return
        self.skipped_steps += 1
        self.in_a_row += 1
        if self.in_a_row >= self.most_in_a_row:
            raise TrainingDiverged(
                f"{self.in_a_row} steps in a row had a non-finite loss or gradient (at {images_seen:,} images); their "
                "updates were not applied. Resume from the last checkpoint with a lower learning rate or "
                "--precision fp32, and look at grad_norm/* in the journal to see where it began.",
                images_seen=images_seen,
                onset_images=self._finite_images,
            )
