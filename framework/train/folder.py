"""The folder of a run: where its files are, what it would resume from, whether that is allowed, what was asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from framework.checkpoint import Checkpoint, CheckpointError, newest_valid
from framework.data.joined import SampleStream
from framework.games.base import Game
from framework.recipe import Recipe
from framework.recipe.description import describe, differences, dumps, science, science_hash
from framework.runtime.seeding import NEW_RUNS, VERSIONS, DrawsVersion
from framework.runtime.session import Session
from framework.sampling.drawn import Drawn
from framework.train.config import RunConfig
from framework.train.record_check import check_record
from framework.train.sources import open_data
from framework.utils.atomic import write_atomically
from framework.utils.bounded import read_object
from framework.utils.errors import FrameworkError

log = logging.getLogger("framework")

SEEN_WITHIN_SECONDS = 60.0
"""The longest time after which another machine sees rank 0's checkpoint; NFS caches folders for up to a minute."""


class ResumeError(FrameworkError):
    """Raised when the run folder holds something that this command must not continue."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder `--out` with recipe.json, journal.jsonl, checkpoints/, samples/, and PREEMPTED when stopped early.

    A game of points also has its recording there, frames.jsonl and game.html.
    """

    path: Path
    players: tuple[str, ...] = ("generator", "discriminator")
    """The names of the recipe's players, which its checkpoints must hold."""

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints: one folder each, named by images seen."""
        return self.path / "checkpoints"

    @property
    def preempted(self) -> Path:
        """The marker that a signal stopped the run before its end; schedulers requeue on it."""
        return self.path / "PREEMPTED"

    @property
    def recipe(self) -> Path:
        """The file with the resolved recipe."""
        return self.path / "recipe.json"

    def prepare(self, recipe: Recipe) -> None:
        """Make the folder and write the resolved recipe.

        Raises:
            FrameworkError: the folder cannot be written.
        """
        try:
            write_atomically(self.recipe, dumps(described(recipe) | {"science_hash": science_hash(recipe)}))
        except OSError as error:
            raise FrameworkError(
                f"the run folder {self.path} cannot be written: {error.strerror}; choose another --out"
            ) from None

    def mark_preempted(self, images_seen: int) -> None:
        """Leave the marker `PREEMPTED`; where that fails (a full disk, say), the exit status still says it."""
        try:
            self.preempted.write_text(f"stopped by a signal after {images_seen} images; the same command resumes\n")
        except OSError as error:
            log.warning("%s cannot be written: %s; the checkpoint is saved", self.preempted, error.strerror)

    def mark_stopped_early(self) -> None:
        """Leave the marker of a launch that a signal ended before its first step."""
        with contextlib.suppress(OSError):  # the exit status still says it
            self.path.mkdir(parents=True, exist_ok=True)
            self.preempted.write_text("stopped by a signal before the first step; the same command continues\n")

    def refuse_another_recipe(self, recipe: Recipe, session: Session) -> None:
        """Refuse a folder that was begun with another recipe: its journal belongs to that one (a collective).

        Raises:
            ResumeError: the folder was begun with another recipe.
        """
        hashed = ""
        if session.is_main and self.recipe.exists():
            try:
                hashed = str(read_object(self.recipe).get("science_hash", ""))
            except (OSError, FrameworkError) as error:  # cut by a crash: no checkpoint depends on it yet
                log.warning("%s; it is written anew", error)
        if session.broadcast_text(hashed) not in ("", science_hash(recipe)):
            raise ResumeError(
                f"{self.path} was begun with another recipe and has no checkpoint yet; use another --out, or remove "
                "the folder"
            )

    def newest_checkpoint(self, session: Session, *, before: int | None = None) -> Checkpoint | None:
        """Find the newest checkpoint that passes its hashes, the same on every process; log refused ones.

        Args:
            before: look only at checkpoints of fewer images than this; then finding none is no error.

        Returns:
            The checkpoint, or None if there is none.

        Raises:
            ResumeError: checkpoints exist, but none of them is intact.
            CheckpointError: its record is not one that training wrote, or the checkpoint that rank 0 found does not
                appear on this machine.
        """
        if session.is_main:
            found, rejected = newest_valid(self.checkpoints, before=before)
            for one in rejected:
                log.warning("checkpoint refused: %s (%s)", one.path, one.why)
            answer = str(found.images_seen) if found else ("damaged" if rejected and before is None else "")
        else:
            answer = None
        answer = session.broadcast_text(answer)
        if answer == "damaged":
            raise ResumeError(
                f"every checkpoint in {self.checkpoints} is damaged (see the warnings above); move the folder away to "
                "start afresh, or restore one from a copy"
            )
        if not answer:
            return None
        checkpoint = _opened(self.checkpoints / answer)
        check_record(checkpoint, players=self.players)
        return checkpoint


def described(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's description, with the number of its classes, and what its samples are unless pictures of z."""
    assert isinstance(recipe.game, Game)
    drawn, document = recipe.game.drawn(recipe), describe(recipe)
    document["data"].setdefault("classes", recipe.data.classes)  # a computed source, or several, has no such field
    return document | ({} if drawn == Drawn() else {"samples": drawn.to_json()})


def run_folder(recipe: Recipe, config: RunConfig) -> RunFolder:
    """Return the folder of a run."""
    return RunFolder(path=config.run_folder(recipe.name), players=tuple(recipe.players))


def _opened(path: Path) -> Checkpoint:
    """Open the checkpoint that rank 0 has found; a shared file system may show it here a little later.

    Raises:
        CheckpointError: it does not appear within `SEEN_WITHIN_SECONDS`.
    """
    deadline = time.monotonic() + SEEN_WITHIN_SECONDS
    while True:
        try:
            found = Checkpoint.open(path)
            found.verify("size")  # the manifest may be seen before the files that it lists
            return found
        except CheckpointError as error:
            if time.monotonic() > deadline:
                raise CheckpointError(
                    f"{error}; rank 0 has it, but it did not appear here within {SEEN_WITHIN_SECONDS:g} s: is "
                    f"{path.parent} on a file system that all nodes mount?"
                ) from None
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # makes NFS look again
        time.sleep(0.2)


def check_science(recipe: Recipe, checkpoint: Checkpoint, *, allow_change: bool) -> None:
    """Refuse to continue a checkpoint of another recipe, unless that is wanted.

    Raises:
        ResumeError: the recipes differ; the message names every difference.
    """
    if checkpoint.record["science_hash"] == science_hash(recipe):
        return
    listed = "\n  ".join(differences(checkpoint.document("science.json"), science(recipe)))
    if allow_change:
        log.warning("continuing with a changed recipe:\n  %s", listed)
        return
    raise ResumeError(
        f"{checkpoint.path} was trained with another recipe:\n  {listed}\n"
        "Use another --out for a new run, or --allow-change to continue with the change."
    )


def draws_version(checkpoint: Checkpoint | None) -> DrawsVersion:
    """Return the version of the random numbers with which a run goes on: that of its checkpoint.

    Args:
        checkpoint: None for a new run. One that names no version was written when there was only the first.

    Raises:
        ResumeError: this program does not know the version.
    """
    if checkpoint is None:
        return NEW_RUNS
    recorded = checkpoint.record.get("draws_version", 1)
    for version in VERSIONS:
        if version == recorded:
            return version
    raise ResumeError(
        f"{checkpoint.path} was trained with random numbers of version {recorded}, which this program does not know "
        f"(its newest is {VERSIONS[-1]}); continue it with the program that wrote it, or with a newer one"
    )


class Fingerprinted(Protocol):
    """A data set as it is identified: by its number of images and a fingerprint."""

    count: int
    fingerprint: str


def check_data(stream: Fingerprinted, checkpoint: Checkpoint, *, allow_change: bool) -> None:
    """Refuse to continue on other data than the checkpoint was trained on, unless that is wanted.

    Raises:
        ResumeError: the data differs; the message names both.
    """
    before = checkpoint.record["data"]
    if before["fingerprint"] == stream.fingerprint:
        return
    message = (
        f"the data changed: {checkpoint.path} was trained on {before['count']:,} images with fingerprint "
        f"{before['fingerprint'][:12]}, these shards hold {stream.count:,} with {stream.fingerprint[:12]}"
    )
    if not allow_change:
        raise ResumeError(f"{message}. Point --data to the original shards, or use --allow-change.")
    log.warning("%s; continuing", message)


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The request of a launch: what it trains, how, and where its files and its data are."""

    recipe: Recipe
    config: RunConfig
    session: Session
    folder: RunFolder
    data: str
    """The location of the shards on this machine; "" where there are none, or several sets."""

    def stream(self, resolution: int) -> SampleStream:
        """Open the real samples, images at a resolution in pixels.

        Raises:
            DataError: the shards cannot be read, or are not as the recipe says.
        """
        side = resolution if self.recipe.growth else None
        return open_data(self.recipe, self.config, session=self.session, location=self.data, resolution=side)
