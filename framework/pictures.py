"""Pictures from elsewhere, opened within bounds; see `framework.bounded` for the rule."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image

from framework.bounded import decoding
from framework.errors import FrameworkError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Plain pictures; Pillow knows others, some of which start programs."""
MOST_PIXELS = 1 << 25
"""A grid of 8 x 4 pictures of 1024 px."""
_PIXELS_PER_BYTE = 12_000
"""Flat pictures in PNG have a thousand pixels a byte, in palettes of two colours eight times as many; WebP has more."""


@contextmanager
def opened(file: BinaryIO, *, source: object) -> Iterator[Image.Image]:
    """The picture in a file, loaded.

    Raises:
        FrameworkError: it is no picture of a known format, is damaged, or has more pixels than its bytes could tell.
    """
    num_bytes = os.fstat(file.fileno()).st_size
    with decoding(source), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd but harmless files; size is checked here
        image = Image.open(file, formats=FORMATS)
        if image.width * image.height > min(MOST_PIXELS, _PIXELS_PER_BYTE * num_bytes):
            raise FrameworkError(
                f"{source} has {image.width} x {image.height} pixels in {num_bytes} bytes; at most {MOST_PIXELS} "
                "pixels are read"
            )
        image.load()  # a cut file must not pass
    with image, decoding(source):
        yield image
