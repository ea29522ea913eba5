"""Sample grids as data URIs within a budget of bytes, so that the page of a long run still opens on a phone.

A grid within `MAX_SIDE` pixels and `AS_IT_IS_BYTES` is embedded as it is; others are made smaller or written as WebP.
When a run's grids exceed its share of `BUDGET_BYTES`, every second one goes until they fit; first and last stay.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from framework.utils.bounded import open_regular
from framework.utils.errors import FrameworkError
from framework.utils.pictures import opened

BUDGET_BYTES = 12_000_000
"""The most image bytes of a page before base64 (which adds a third)."""
MAX_STEPS = 60
MAX_SIDE = 1400
AS_IT_IS_BYTES = 150_000
_WEBP_QUALITY = 82


@dataclass(kw_only=True)
class Strip:
    """The grids of one key over time as data URIs, by rising clock."""

    images: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    num_recorded: int = 0
    notes: list[str] = field(default_factory=list)


def strip(grids: dict[int, Path], *, budget_bytes: int) -> Strip:
    """Encode the grids of a key (images seen -> file); the notes name files that are gone or damaged."""
    result = Strip(num_recorded=len(grids))
    chosen = spread(sorted(grids), most=MAX_STEPS)
    encoded: dict[int, tuple[str, bytes]] = {}
    for images in chosen:
        try:
            encoded[images] = encode(grids[images])
        except (OSError, FrameworkError) as error:
            result.notes.append(f"The grid at {images:,} images cannot be shown: {error}.")
    while len(encoded) > 2 and sum(len(data) for _, data in encoded.values()) > budget_bytes:
        kept = spread(sorted(encoded), most=max(2, len(encoded) // 2))
        encoded = {images: encoded[images] for images in kept}
    for images, (kind, data) in sorted(encoded.items()):
        result.images.append(images)
        result.sources.append(data_uri(kind, data))
    return result


def spread(clocks: list[int], *, most: int) -> list[int]:
    """Return at most `most` of the clocks, evenly spread, the first and the last among them."""
    if len(clocks) <= most:
        return clocks
    return [clocks[round(i * (len(clocks) - 1) / (most - 1))] for i in range(most)]


def encode(path: Path) -> tuple[str, bytes]:
    """Return (media type, bytes) of an image file, small enough for a page.

    Raises:
        OSError: the file is gone.
        FrameworkError: it is no image that can be read.
    """
    with open_regular(path) as file, opened(file, source=path) as image:
        file.seek(0)
        data = file.read(AS_IT_IS_BYTES + 1)
        if image.format == "PNG" and max(image.size) <= MAX_SIDE and len(data) <= AS_IT_IS_BYTES:
            return "image/png", data
        shrink = MAX_SIDE / max(image.size)
        if shrink < 1:
            size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
            smaller = _in_colours(image).resize(size, Image.Resampling.LANCZOS)
        else:
            smaller = _in_colours(image)
        buffer = io.BytesIO()
        smaller.save(buffer, format="WEBP", quality=_WEBP_QUALITY)
        return "image/webp", buffer.getvalue()


def _in_colours(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def data_uri(kind: str, data: bytes) -> str:
    """Return the bytes as a URI, `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
