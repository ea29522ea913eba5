"""The one clock of a run: real images seen. Everything periodic asks whether the clock has crossed a multiple."""

from __future__ import annotations


def crossed(every_images: int | None, *, before: int, after: int) -> bool:
    """Return whether a multiple of `every_images` lies in (before, after]; never when it is None or 0."""
    return every_images is not None and every_images > 0 and after // every_images > before // every_images
