"""Go back after a collapse, to the last sound checkpoint, with other data next and a lower learning rate.

Repeating the same steps exactly would collapse again exactly. So training goes on from the sound checkpoint with the
data that would have come after the collapse, and with a learning rate that every rollback halves. The rollback is
written into the checkpoint that the run went back to, before the first new step, so that a crash cannot undo it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.checkpoint import Checkpoint
from framework.checkpoint.layout import EVALUATION, SCORES
from framework.recipe.growth import Segment
from framework.runtime.health import Collapse, OnCollapse
from framework.runtime.session import Session
from framework.train.folder import RunFolder
from framework.utils.atomic import replacing

LR_FACTOR = 0.5
"""The factor on both players' learning rates for every rollback."""


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """One return to an earlier checkpoint."""

    from_images: int
    """The clock when the collapse was noticed."""
    to_images: int
    """The clock of the checkpoint."""
    reason: str
    """The collapse, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """The effect of all rollbacks on the rest of the run; the same on every process, and part of checkpoints."""

    rollbacks: tuple[Rollback, ...] = ()

    @property
    def lr_factor(self) -> float:
        """The factor on the recipe's learning rates."""
        return LR_FACTOR ** len(self.rollbacks)

    @property
    def shift_images(self) -> int:
        """The images by which the position in the data is ahead of the clock, so that a rollback repeats no data."""
        return sum(rollback.from_images - rollback.to_images for rollback in self.rollbacks)

    def slowed(self, segment: Segment) -> Segment:
        """Return a segment of the clock with the learning rates after these rollbacks."""
        return dataclasses.replace(segment, lr_factor=segment.lr_factor * self.lr_factor)

    def state(self) -> list[dict[str, Any]]:
        """Return what a checkpoint records, as JSON."""
        return [dataclasses.asdict(rollback) for rollback in self.rollbacks]

    @classmethod
    def restored(cls, state: Iterable[Mapping[str, Any]]) -> Course:
        """Restore a course from what `state` returned."""
        return cls(rollbacks=tuple(Rollback(**one) for one in state))


def records_beside(checkpoint: Path) -> dict[str, bytes]:
    """Return the files that evaluation has put into the folder of a checkpoint, by name.

    Raises:
        OSError: a file cannot be read.
    """
    return {name: (checkpoint / name).read_bytes() for name in (SCORES, EVALUATION) if (checkpoint / name).exists()}


def put_beside(checkpoint: Path, records: Mapping[str, bytes]) -> None:
    """Put the files of `records_beside` beside the same state, saved anew.

    Raises:
        OSError: a file cannot be written.
    """
    for name, content in records.items():
        with replacing(checkpoint / name) as temporary:
            temporary.write_bytes(content)


def answer(
    collapse: Collapse, course: Course, *, on_collapse: OnCollapse, most: int, folder: RunFolder, session: Session
) -> tuple[Checkpoint, Course]:
    """Answer a collapse: find the checkpoint to go back to, and the course from there (a collective).

    Args:
        collapse: what happened, and when all was well for the last time.
        course: the rollbacks so far.
        on_collapse: what the run was told to do.
        most: the most rollbacks of a run.

    Returns:
        The checkpoint and the new course, the same on every process.

    Raises:
        Collapse: the run was not told to go back, has done so often enough, or has no sound checkpoint left.
    """
    # The newest checkpoint from before the trouble.
    sound = folder.newest_checkpoint(session, before=collapse.onset_images + 1)
    where = f"the newest checkpoint from before the trouble is {sound.path}" if sound else "no checkpoint is that old"
    # Every reason to end says where a person could go on.
    if on_collapse != "rollback":
        raise _ended(collapse, f"{where}; to go on from it, move the later ones away, or use --on-collapse rollback")
    if len(course.rollbacks) >= most:
        raise _ended(collapse, f"{most} rollbacks (--most-rollbacks) did not help; {where}")
    if sound is None:
        raise _ended(
            collapse, f"nothing to go back to at or before {collapse.onset_images:,} images: raise --keep-last"
        )
    rollback = Rollback(from_images=collapse.images, to_images=sound.images, reason=str(collapse))
    return sound, Course(rollbacks=(*course.rollbacks, rollback))


def _ended(collapse: Collapse, why: str) -> Collapse:
    """Return the same collapse with the reason why training ends with it."""
    text = str(collapse).rstrip(".")
    return Collapse(
        f"{text}. Training ends at {collapse.images:,} images: {why}",
        images=collapse.images,
        onset_images=collapse.onset_images,
    )
