"""What a run tells the tracker about itself when it begins."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from framework.data.stream import Stream
from framework.describe import describe, leaves, science_hash
from framework.recipe import Recipe
from framework.tracking import Tracker, embedded_uri
from framework.tracking.system import git_revision
from framework.tracking.uri import redact
from framework.train.config import RunConfig
from framework.train.folder import RunFolder


def open_tracker(recipe: Recipe, config: RunConfig, folder: RunFolder, stream: Stream) -> Tracker:
    """The tracker of a new or resumed run, told what is trained, with what code and on which data."""
    tracker = Tracker.open(
        folder.path,
        uri=tracking_uri(config, folder),
        experiment=config.experiment or recipe.name,
        run_name=config.run_name or folder.path.name,
    )
    tracker.params(headline(recipe) | {"engine": config.engine, "precision": config.precision})
    command = command_line()
    tracker.tags(
        {
            "framework.recipe": recipe.name,
            "framework.science_hash": science_hash(recipe),
            "framework.data_fingerprint": stream.fingerprint,
            "framework.data_location": redact(str(stream.describe()["location"])),
            "framework.command": command,
            "framework.git_commit": _revision(),
        }
    )
    tracker.note(f"**{recipe.name}**: {recipe.paper}\n\n`{command}`")
    tracker.artifact(folder.recipe)
    return tracker


def tracking_uri(config: RunConfig, folder: RunFolder) -> str | None:
    """The MLflow URI of a run: as told, none, or an SQLite database beside the run folder."""
    if config.tracking == "none":
        return None
    return embedded_uri(folder.path.parent) if config.tracking == "default" else config.tracking


def headline(recipe: Recipe) -> dict[str, object]:
    """The recipe's leaves for MLflow's parameter table; what is unset or says only what kind of part it is stays out.

    The whole recipe is the artifact `recipe.json`.
    """
    told = {"game.loss.type", "game.type"}
    return {
        path: value
        for path, value in leaves(describe(recipe))
        if value is not None and (not path.endswith("type") or path in told)
    }


def command_line() -> str:
    """This process's command line without passwords in URIs."""
    words = []
    for word in sys.argv:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(f"{flag}{equals}{redact(value) if '://' in value else value}")
    return shlex.join(words)


def _revision() -> str:
    revision = git_revision(Path(__file__).parent)
    if revision is None:
        return "none"
    return f"{revision['commit']}{'-dirty' if revision['dirty'] else ''}"
