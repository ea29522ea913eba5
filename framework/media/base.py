"""The base of all that is shown: bytes of one file, and words for those who cannot see or hear it."""

from __future__ import annotations

import io
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from framework.utils.atomic import replacing
from framework.utils.errors import FrameworkError

Pixels = NDArray[np.uint8]

MOST_BYTES = 32 << 20
"""The most bytes of a page: what a browser still opens at once."""
_MOST_TEXT = 200
_MOST_DESCRIPTION = 1000
_MOST_NAMES_TOLD = 20


class Media(ABC):
    """Something to show, complete and unchangeable: arrays given to it are copied.

    A subclass is a frozen dataclass that checks its fields, so that wrong ones are named where they were given; it is
    drawn later, by `encode`, in whichever thread saves it.

    Attributes:
        suffix: the ending of its file's name. `.png` is shown as a picture, `.html` as a page.
        form: what it is, in one word for readers of the journal.
    """

    suffix: ClassVar[str]
    form: ClassVar[str]

    @property
    @abstractmethod
    def description(self) -> str:
        """A sentence that can stand in its place."""

    @abstractmethod
    def encode(self) -> bytes:
        """Return the content of its file: the same bytes for the same fields."""

    def save(self, path: Path | str) -> Path:
        """Write its file, whole or not at all, and return the path; parent folders are made.

        Raises:
            OSError: the file cannot be written.
        """
        path = Path(path)
        content = self.encode()
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        return path


def png(pixels: Pixels) -> bytes:
    """Return `(H, W)`, `(H, W, 1)` or `(H, W, 3)` uint8 pixels as the bytes of a PNG file."""
    buffer = io.BytesIO()
    # Level 1 takes half the time of the default and costs about a tenth in size on samples.
    to_image(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def to_image(pixels: Pixels) -> Image.Image:
    """Return a Pillow image of `(H, W)`, `(H, W, 1)` or `(H, W, 3)` uint8 pixels.

    Raises:
        FrameworkError: another dtype or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise FrameworkError(
            f"an image must be uint8 of shape (H, W), (H, W, 1) or (H, W, 3), got {pixels.dtype} {pixels.shape}"
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def kept(values: Any) -> NDArray[Any]:
    """Return a copy of an array that nobody can change."""
    array = np.array(values)
    array.flags.writeable = False
    return array


def check_text(text: object, *, what: str) -> str:
    """Return a text if it can be drawn and written.

    Raises:
        FrameworkError: it is no text, too long, or holds control characters or halves of characters.
    """
    if not isinstance(text, str):
        raise FrameworkError(f"{what} must be a text, got a {type(text).__name__}")
    if len(text) > _MOST_TEXT:
        raise FrameworkError(f"{what} {text[:20]!r}... has {len(text)} characters: give at most {_MOST_TEXT}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise FrameworkError(f"{what} {text[:20]!a} must be text on one line, without control characters")
    return text


def check_texts(texts: Sequence[str], *, what: str) -> tuple[str, ...]:
    """Return texts as a tuple; see `check_text`.

    Raises:
        FrameworkError: one of them cannot be drawn, or they are one text instead of several.
    """
    if isinstance(texts, str):
        raise FrameworkError(f"{what}: give a list of texts, not the text {texts[:20]!r}")
    return tuple(check_text(text, what=what) for text in texts)


def shortened(description: str) -> str:
    """Return a description within the length that a page still reads out."""
    return description if len(description) <= _MOST_DESCRIPTION else f"{description[: _MOST_DESCRIPTION - 1]}…"


def listed(names: Sequence[str], *, between: str = ", ") -> str:
    """Return names in one line, the first ones of many."""
    left_out = len(names) - _MOST_NAMES_TOLD
    return between.join(names[:_MOST_NAMES_TOLD]) + (f" and {left_out} more" if left_out > 0 else "")
