"""The error that engines raise."""

from __future__ import annotations

from framework.utils.errors import FrameworkError


class EngineError(FrameworkError):
    """Raised when the chosen engine cannot do what the recipe asks on this machine."""
