"""The choice of the checkpoints that stay: the last ones, one per so many images, and the best by a score.

Deciding is a pure function of names and scores; deleting renames first, so that a crash never leaves half a checkpoint
under a valid name. A run that goes back (a damaged checkpoint, a rollback after a divergence, `--resume` from an older
one) leaves checkpoints of more images than it has seen. They are set aside when the first checkpoint after that is
complete, because `latest` is derived from names and must not lead back to them.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from framework.checkpoint.durable import discard, read_json, remove_tree, sync_folder, write_json
from framework.checkpoint.errors import CheckpointError, explain
from framework.checkpoint.layout import SCORES, checkpoint_folders, parse_replaced, parse_temporary

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """The rules of what to keep; a checkpoint stays if one of them wants it."""

    last: int | None = 3
    """Number of the newest checkpoints that stay; None keeps everything."""
    every_images: int | None = None
    """Number of images; the first checkpoint at or after every multiple of it stays. None for no such rule."""
    best: int = 0
    """Number of checkpoints with the best score that stay."""
    score: str = "fid"
    """Name of the score, as given to `record_score`."""
    former_scores: tuple[str, ...] = ()
    """Names of scores under earlier protocols, which are not comparable with it: the best of each stay, too."""
    lower_is_better: bool = True
    """True for a score whose best value is the smallest, as a distance's is."""

    def __post_init__(self) -> None:
        if self.last is not None and self.last < 1:
            raise ValueError(f"retention.last={self.last}: keep at least one checkpoint (None keeps all)")
        if self.every_images is not None and self.every_images < 1:
            raise ValueError(f"retention.every_images={self.every_images}: must be at least 1, or None")
        if self.best < 0:
            raise ValueError(f"retention.best={self.best}: must not be negative")


def to_delete(existing: Iterable[int], scores: Mapping[int, float], policy: Retention) -> list[int]:
    """Return the clock of the checkpoints that no rule keeps, ascending.

    Args:
        existing: clock of every checkpoint.
        scores: clock -> score, where there is one.
        policy: the rules.
    """
    images = sorted(set(existing))
    if policy.last is None:
        return []
    keep = set(images[-policy.last :])
    if policy.every_images:
        # Saves seldom hit a multiple exactly, so the first one after it is kept; deleting others never moves it.
        first: dict[int, int] = {}
        for count in images:
            first.setdefault(count // policy.every_images, count)
        keep |= {count for multiple, count in first.items() if multiple > 0}
    sign = 1 if policy.lower_is_better else -1
    ranked = sorted((sign * scores[count], -count) for count in images if count in scores)
    keep |= {-negative for _, negative in ranked[: policy.best]}
    return [count for count in images if count not in keep]


def record_score(path: Path, name: str, value: float) -> None:
    """Write a score of the checkpoint in `path`, beside those it has.

    Raises:
        CheckpointError: the value is not finite, or `scores.json` cannot be read or written.
    """
    if not math.isfinite(value):
        raise CheckpointError(f"score {name}={value} of {path} is not a finite number and cannot be compared")
    scores = read_scores(path) | {name: float(value)}
    try:
        write_json(path / SCORES, scores)
    except OSError as error:
        raise explain(error, doing=f"record score {name}", path=path) from error


def read_scores(path: Path) -> dict[str, float]:
    """Return all scores of the checkpoint in `path`, by name; nothing where none was recorded.

    Raises:
        CheckpointError: `scores.json` is damaged or cannot be read.
    """
    file = path / SCORES
    if not file.exists():
        return {}
    scores = read_json(file)
    if not isinstance(scores, dict) or not all(type(value) in (int, float) for value in scores.values()):
        raise CheckpointError(f"{file} must map names to numbers: delete it or mend it")
    return scores


def apply_retention(folder: Path, policy: Retention, *, token: str) -> list[int]:
    """Delete what the policy does not keep, and return the clock of each deleted checkpoint.

    Raises:
        CheckpointError: a folder cannot be listed, or a `scores.json` is damaged.
        OSError: a folder cannot be renamed.
    """
    folders = checkpoint_folders(folder)
    found = {images: read_scores(path) for images, path in folders.items()} if policy.best else {}
    doomed = set(folders)
    for name in (policy.score, *policy.former_scores):
        scores = {images: values[name] for images, values in found.items() if name in values}
        doomed &= set(to_delete(folders, scores, policy))
    for images in sorted(doomed):
        discard(folders[images], token=token)
    return sorted(doomed)


def set_aside_later(folder: Path, *, images_seen: int, token: str) -> None:
    """Rename every checkpoint beyond `images_seen` to `<clock>.superseded`: the run went back and continues anew."""
    for later, path in checkpoint_folders(folder).items():
        if later > images_seen:
            aside = folder / f"{later}.superseded"
            if aside.exists():
                discard(aside, token=token)
            os.rename(path, aside)
            log.warning("checkpoint %d lies beyond the one just saved (%d): set aside as %s", later, images_seen, aside)
    sync_folder(folder)


def settle_replaced(folder: Path) -> None:
    """Finish replacements: delete a former checkpoint whose successor is there, and give any other its name back."""
    for path in list(folder.iterdir()):
        images = parse_replaced(path.name)
        if images is not None:
            successor = folder / str(images)
            if successor.exists():
                remove_tree(path)
            else:
                os.rename(path, successor)
    sync_folder(folder)


def sweep(folder: Path, *, token: str, before_sequence: int = 0) -> None:
    """Delete unfinished saves (of this launch only those before `before_sequence`) and unfinished deletions."""
    for path in list(folder.iterdir()):
        temporary = parse_temporary(path.name)
        stale = temporary is not None and (temporary[0] != token or temporary[1] < before_sequence)
        if stale or (path.name.startswith(".") and path.name.endswith(".deleted")):
            remove_tree(path)
