"""The error of this room."""

from __future__ import annotations

from framework.errors import FrameworkError


class EngineError(FrameworkError):
    """The chosen engine cannot do what the recipe asks on this machine."""
