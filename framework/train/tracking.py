"""Tell the tracker about a run: how it was launched, on what data, and what it ends with."""

from __future__ import annotations

import importlib.util
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import distributed

from framework.checkpoint import Checkpoint
from framework.data.joined import SampleStream
from framework.games.base import Game
from framework.media.grids import image_grid
from framework.recipe import Recipe
from framework.recipe.description import class_name, describe, science_hash
from framework.sampling.animation import interpolation, save_animation
from framework.sampling.load import load_generator
from framework.tracking import NullTracker, Tracker
from framework.tracking.environment import store_uri
from framework.tracking.records import JOURNAL_NAME, read_journal
from framework.tracking.system import git_revision
from framework.train.config import RunConfig
from framework.train.folder import RunFolder
from framework.utils.bounded import is_count
from framework.utils.errors import FrameworkError
from framework.utils.leaves import leaves
from framework.utils.redaction import redact_text

log = logging.getLogger("framework")

WALK_FRAMES, WALK_CLASSES, WALK_PIXELS = 40, 5, 128


def open_tracker(recipe: Recipe, config: RunConfig, folder: RunFolder) -> Tracker:
    """Open the tracker of a new or resumed run.

    It holds the run folder's lock: from here on, a second launch into the same folder is refused.

    Raises:
        FrameworkError: the folder cannot be written, another process trains in it, or its store's password is missing.
    """
    wished = config.wishes()
    for sentence in wished.unused:
        log.warning("%s", sentence)
    experiment, run_name = config.names(recipe.name)
    tracker = Tracker.open(
        folder.path,
        uri=store_uri(wished.tracking, run_folder=folder.path),
        experiment=experiment,
        run_name=run_name,
    )
    start = tracker.journal.state.start
    for what, name, kept in (
        ("experiment", wished.experiment, start["experiment"]),
        ("run name", wished.run_name, start["run_name"]),
    ):
        if name not in (None, kept):
            log.warning("the %s stays %r, as when the run began; %r is for a new run", what, kept, name)
    return tracker


def introduce(tracker: Tracker, recipe: Recipe, config: RunConfig, folder: RunFolder, stream: SampleStream) -> None:
    """Tell the tracker what is trained, with what code and on which data."""
    tracker.params(headline(recipe, changed=config.set) | {"engine": config.engine, "precision": config.precision})
    command = command_line()
    tracker.tags(
        {
            "framework.recipe": recipe.name,
            "framework.science_hash": science_hash(recipe),
            "framework.data_fingerprint": stream.fingerprint,
            "framework.data_location": str(stream.describe()["location"]),
            "framework.command": command,
            "framework.git_commit": _revision(),
            "framework.engine": config.engine,
            "framework.world_size": distributed.get_world_size() if distributed.is_initialized() else 1,
        }
    )
    told = stream.describe()
    kept = ("split", "count", "num_shards", "bytes", "stored_resolution", "resolution", "channels", "classes", "flip")
    tracker.dataset(
        str(told["name"] or recipe.name),
        digest=stream.fingerprint,
        location=str(told["location"]),
        profile={name: told[name] for name in kept if name in told},
    )
    tracker.note(f"**{recipe.name}**: {recipe.paper}\n\n`{command}`")
    tracker.artifact(folder.recipe)


def log_generator(tracker: Tracker | NullTracker, checkpoint: Path, recipe: Recipe) -> None:
    """Log what sampling needs to MLflow, so that `framework sample runs:/<id>` works on other machines."""
    opened = Checkpoint.open(checkpoint)
    for name in ("manifest.json", *opened.ema_files):
        tracker.artifact(checkpoint / name, folder=f"checkpoints/{checkpoint.name}")
    total = opened.document("recipe.json").get("images")
    if is_count(total) and opened.images_seen >= total:
        log_walk(tracker, checkpoint, recipe)


def log_walk(tracker: Tracker | NullTracker, checkpoint: Path, recipe: Recipe) -> None:
    """Log a film of walks through latent space, where there is one, an MLflow to show it and the extra `video`.

    Nothing depends on the film: whatever goes wrong (too little memory, say) is a warning, and the run ends as it would
    without.
    """
    if not isinstance(tracker, Tracker) or tracker.upload is None or importlib.util.find_spec("av") is None:
        return
    if isinstance(recipe.game, Game) and not recipe.game.drawn(recipe).walks:
        return
    try:
        cls = recipe.generator.network.cls  # the recipe file's own, perhaps
        device = "cuda" if torch.cuda.is_initialized() else "cpu"
        loaded = load_generator(checkpoint, device=device, classes={class_name(cls): cls})
        if loaded.drawn.kind != "pictures" or loaded.drawn.latents:
            return  # a walk goes between Gaussian vectors, and a film shows pictures
        classes = list(range(min(loaded.classes, WALK_CLASSES)))
        walks = interpolation(loaded, classes=classes, steps=WALK_FRAMES, truncation=None, seed=0, closed=True).numpy()
        scale = max(1, WALK_PIXELS // walks.shape[-1])
        frames = [image_grid(walks[:, i], columns=len(walks), scale=scale) for i in range(WALK_FRAMES)]
        film = save_animation(checkpoint.parents[1] / "videos" / f"walk-{loaded.images_seen:09d}.mp4", frames)
        tracker.artifact(film, folder="videos")
    except (FrameworkError, RuntimeError, OSError) as error:
        log.warning("no film of a latent walk: %s", str(error).partition("\n")[0])


def journal_is_closed(folder: RunFolder) -> bool:
    """Return whether the journal says that the last launch of a run has ended."""
    path = folder.path / JOURNAL_NAME
    kinds = [record["kind"] for _, record in read_journal(path)] if path.exists() else []
    return "start" not in kinds or "end" in kinds[len(kinds) - 1 - kinds[::-1].index("start") :]


HEADLINE = (
    "data.resolution",
    "batch_size",
    "generator.optimizer.lr",
    "discriminator.optimizer.lr",
    "game.loss.type",
    "seed",
)


def headline(recipe: Recipe, *, changed: Sequence[str] = ()) -> dict[str, object]:
    """Return the few leaves of the recipe that MLflow shall show as parameters, and those that `--set` changed.

    MLflow prints every parameter above each sample grid, so a whole recipe would hide the images; all of it is the
    artifact `recipe.json`.
    """
    paths = dict.fromkeys((*HEADLINE, *(assignment.partition("=")[0] for assignment in changed)))
    told = dict(leaves(describe(recipe)))
    options = {path.replace(".options.", "."): value for path, value in told.items()}
    return {path: value for path in paths if (value := (told | options).get(path)) is not None}


def command_line() -> str:
    """Return this process's command line without secrets in locations."""
    return shlex.join(redact_text(word) for word in sys.argv)


def _revision() -> str:
    revision = git_revision(Path(__file__).parent)
    if revision is None:
        return "none"
    return f"{revision['commit']}{'-dirty' if revision['dirty'] else ''}"
