"""Names the nearest valid words in an error message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str], *, limit: int = 3) -> str:
    """Return a clause such as `; nearest: lr, eps`, or an empty string when no choice is near."""
    matches = difflib.get_close_matches(word, list(choices), n=limit, cutoff=0.5)
    return f"; nearest: {', '.join(matches)}" if matches else ""
