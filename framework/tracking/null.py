"""The tracker of the ranks that do not write, so that the loop need not ask for its rank."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from framework.media.base import Media, Pixels


class NullTracker:
    """Takes the calls of `tracker.Tracker` and does nothing."""

    def metrics(self, values: Mapping[str, SupportsFloat], *, images_seen: int) -> None:
        """Do nothing."""

    def params(self, values: Mapping[str, object]) -> None:
        """Do nothing."""

    def tags(self, values: Mapping[str, object]) -> None:
        """Do nothing."""

    def note(self, markdown: str) -> None:
        """Do nothing."""

    def artifact(self, path: Path | str, *, folder: str = "") -> None:
        """Do nothing."""

    def show(self, key: str, media: Media, *, images_seen: int) -> None:
        """Do nothing."""

    def image(self, key: str, pixels: Pixels, *, images_seen: int) -> None:
        """Do nothing."""

    def evaluation(self, records: Mapping[str, Any], *, images_seen: int) -> None:
        """Do nothing."""

    def health(self, sentinel: str, state: str, *, images_seen: int, reason: str = "", remedy: str = "") -> None:
        """Do nothing."""

    def dataset(self, name: str, *, digest: str, location: str, profile: Mapping[str, Any]) -> None:
        """Do nothing."""

    def resumed(self, *, images_seen: int) -> None:
        """Do nothing."""

    def rolled_back(self, *, images_seen: int, from_images: int) -> None:
        """Do nothing."""

    def flush(self, *, wait_seconds: float = 10.0) -> None:
        """Do nothing."""

    def finish(self, status: str, *, wait_seconds: float = 20.0) -> str | None:
        """Do nothing."""
        return None
