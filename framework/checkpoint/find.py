"""Finds the checkpoint to go on from: the newest one that is whole, by the names of folders and nothing else."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from framework.checkpoint.errors import CheckpointError
from framework.checkpoint.layout import MANIFEST, checkpoint_folders
from framework.checkpoint.reader import Checkpoint, Level

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A checkpoint that was passed over."""

    path: Path
    why: str
    """A sentence that says what is wrong with it."""


def list_checkpoints(folder: Path) -> list[int]:
    """Return the clock of all checkpoints in a `checkpoints` folder, ascending; nothing where it does not exist."""
    return list(checkpoint_folders(Path(folder)))


def newest_valid(
    folder: Path, *, before: int | None = None, level: Level = "hash", ema_only: bool = False
) -> tuple[Checkpoint | None, list[Rejected]]:
    """Return the newest checkpoint that passes the check, or None, and the newer ones that did not pass.

    Args:
        folder: a `checkpoints` folder.
        before: number of images seen that checkpoints must be below; None for all.
        level: level of `Checkpoint.verify`.
        ema_only: look only at the files that sampling needs.
    """
    rejected: list[Rejected] = []
    for images, path in reversed(checkpoint_folders(Path(folder)).items()):
        if before is None or images < before:
            try:
                return _verified(path, level=level, ema_only=ema_only), rejected
            except CheckpointError as error:
                rejected.append(Rejected(path=path, why=str(error)))
    return None, rejected


def resolve(path: Path, *, level: Level = "hash", ema_only: bool = False) -> Checkpoint:
    """Return the checkpoint that a path means: that of a checkpoint folder, or the newest valid one of a run.

    Args:
        path: a run folder, its `checkpoints` folder, or one checkpoint.
        level: level of `Checkpoint.verify`.
        ema_only: look only at the files that sampling needs.

    Raises:
        CheckpointError: there is none, or none is valid; the message lists what is wrong with each.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; give a run folder or one of its checkpoints")
    if (path / MANIFEST).exists():
        return _verified(path, level=level, ema_only=ema_only)
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    checkpoint, rejected = newest_valid(folder, level=level, ema_only=ema_only)
    if checkpoint is None:
        reasons = "".join(f"\n  {each.why}" for each in rejected)
        raise CheckpointError(
            f"no {'valid ' if rejected else ''}checkpoint in {folder}{':' if reasons else ''}{reasons}"
        )
    for each in rejected:
        log.warning("passed over a damaged checkpoint: %s", each.why)
    return checkpoint


def _verified(path: Path, *, level: Level, ema_only: bool) -> Checkpoint:
    checkpoint = Checkpoint.open(path)
    checkpoint.verify(level, files=checkpoint.ema_files if ema_only else None)
    return checkpoint
