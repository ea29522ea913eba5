"""What a run shows over time within a budget of bytes, so that the page of a long run still opens on a phone.

A picture within `MAX_SIDE` pixels and `AS_IT_IS_BYTES` is embedded as it is; others are made smaller or written as
WebP. Sounds and pages are embedded as they are, in frames where no script runs; a page that would reach out is not.
When a run exceeds its share of `BUDGET_BYTES`, every second one goes until they fit; first and last stay.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image

from framework.media.base import MOST_BYTES
from framework.media.page import reaching_out
from framework.review.run import Shown
from framework.utils.bounded import decoding, open_regular, read_file
from framework.utils.errors import FrameworkError
from framework.utils.pictures import opened

BUDGET_BYTES = 12_000_000
"""The most bytes of what a page shows over time, before base64 (which adds a third to pictures)."""
MAX_STEPS = 60
MAX_SIDE = 1400
AS_IT_IS_BYTES = 150_000
_WEBP_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A file as it is embedded: the value of an attribute, the bytes it stands for, and a picture's width in pixels."""

    source: str
    num_bytes: int
    width: int = 0


@dataclass(kw_only=True)
class Strip:
    """What one key shows over time, by rising clock: data URIs of pictures, or whole pages."""

    images: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    num_recorded: int = 0
    num_bytes: int = 0
    form: str = "pictures"
    description: str = ""
    """The words for the last one."""
    width: int = 0
    """The pixels of the last picture from left to right."""
    notes: list[str] = field(default_factory=list)


def strip(shown: dict[int, Shown], *, budget_bytes: int) -> Strip:
    """Encode the pictures of a key (images seen -> file); the notes name files that are gone or damaged."""
    return _strip(shown, encode, budget_bytes=budget_bytes, what="picture")


def page_strip(shown: dict[int, Shown], *, budget_bytes: int) -> Strip:
    """Read the sounds or pages of a key, as `strip` does for pictures.

    One that is larger than the budget is left out, because pages cannot be made smaller.
    """
    read = partial(_page, most_bytes=min(budget_bytes, MOST_BYTES))
    return _strip(shown, read, budget_bytes=budget_bytes, what="page")


def _strip(shown: dict[int, Shown], encode_file: Callable[[Path], Encoded], *, budget_bytes: int, what: str) -> Strip:
    result = Strip(num_recorded=len(shown))
    # Encode what is there.
    encoded: dict[int, Encoded] = {}
    for images in spread(sorted(shown), most=MAX_STEPS):
        try:
            encoded[images] = encode_file(shown[images].path)
        except (OSError, FrameworkError) as error:
            result.notes.append(f"The {what} at {images:,} images cannot be shown: {error}.")
    # Thin out what exceeds the budget.
    while len(encoded) > 2 and sum(one.num_bytes for one in encoded.values()) > budget_bytes:
        kept = spread(sorted(encoded), most=max(2, len(encoded) // 2))
        encoded = {images: encoded[images] for images in kept}
    for images, one in sorted(encoded.items()):
        result.images.append(images)
        result.sources.append(one.source)
        result.num_bytes += one.num_bytes
        result.form, result.description, result.width = shown[images].form, shown[images].description, one.width
    return result


def spread(clocks: list[int], *, most: int) -> list[int]:
    """Return at most `most` of the clocks, evenly spread, the first and the last among them."""
    if len(clocks) <= most:
        return clocks
    return [clocks[round(i * (len(clocks) - 1) / (most - 1))] for i in range(most)]


def encode(path: Path) -> Encoded:
    """Return an image file, small enough for a page.

    Raises:
        OSError: the file is gone.
        FrameworkError: it is no image that can be read.
    """
    with open_regular(path) as file, opened(file, source=path) as image:
        file.seek(0)
        data = file.read(AS_IT_IS_BYTES + 1)
        if image.format == "PNG" and max(image.size) <= MAX_SIDE and len(data) <= AS_IT_IS_BYTES:
            return Encoded(source=data_uri("image/png", data), num_bytes=len(data), width=image.width)
        shrink = MAX_SIDE / max(image.size)
        if shrink < 1:
            size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
            smaller = _in_colours(image).resize(size, Image.Resampling.LANCZOS)
        else:
            smaller = _in_colours(image)
        buffer = io.BytesIO()
        smaller.save(buffer, format="WEBP", quality=_WEBP_QUALITY)
        data = buffer.getvalue()
        return Encoded(source=data_uri("image/webp", data), num_bytes=len(data), width=smaller.width)


def _page(path: Path, *, most_bytes: int) -> Encoded:
    """Return a page that can be embedded.

    Raises:
        OSError: the file is gone.
        FrameworkError: it is too large or no UTF-8, or would reach out of the page.
    """
    content = read_file(path, most_bytes=most_bytes)
    with decoding(path):
        text = content.decode("utf-8")
    if element := reaching_out(text):
        raise FrameworkError(f"{path} holds a <{element}>, which reaches out of the page: open the file itself")
    return Encoded(source=text, num_bytes=len(content))


def _in_colours(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def data_uri(kind: str, data: bytes) -> str:
    """Return the bytes as a URI, `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
