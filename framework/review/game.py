"""Recorded games as a file of their own: a page, or a picture of six frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from framework.media.base import Media
from framework.media.game_page import game_page
from framework.media.game_strip import game_strip
from framework.media.recording import Recording
from framework.tracking.frames import FRAMES_NAME, read_recording
from framework.utils.errors import FrameworkError


def write_game(path: Path, folders: Sequence[Path]) -> Path:
    """Write the recorded games of run folders to a file that ends in `.html` or `.png`, and return its path.

    Runs of other games are passed over.

    Raises:
        FrameworkError: another ending, no recorded game, several for a picture, or the file cannot be written.
    """
    if path.suffix not in (".html", ".png"):
        raise FrameworkError(f"--game {path}: let it end in .html, a page, or .png, a picture of six frames")
    found: list[tuple[Path, Recording]] = []
    for folder in folders:
        try:
            recording = read_recording(folder)
        except OSError as error:
            raise FrameworkError(f"{folder / FRAMES_NAME} cannot be read: {error.strerror}") from None
        if recording is not None:
            found.append((folder, recording))
    if not found:
        raise FrameworkError(
            f"--game: {folders[0]} has no {FRAMES_NAME}: games are recorded of generators of points with two numbers"
        )
    # Runs of one name are told apart by the folders above them.
    recordings = [one for _, one in found]
    if len({one.name for one in recordings}) < len(recordings):
        recordings = [replace(one, name=f"{folder.parent.name}/{one.name}") for folder, one in found]
    media: Media
    if path.suffix == ".png":
        if len(recordings) > 1:
            raise FrameworkError(f"--game {path}: a picture shows one run, not {len(found)}: give one, or an .html")
        media = game_strip(recordings[0])
    else:
        media = game_page(recordings)
    try:
        return media.save(path)
    except OSError as error:
        raise FrameworkError(f"--game {path}: cannot be written: {error.strerror}") from None
