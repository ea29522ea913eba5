"""Opens pictures from elsewhere within bounds; see `framework.utils.bounded` for the rule.

This is the only place where Pillow is given foreign bytes. `framework.data.pictures` says what the pixels mean.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from framework.utils.bounded import decoding
from framework.utils.errors import FrameworkError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
"""Formats of plain pictures; JPEG includes MPO. Some others that Pillow knows start programs or read files."""
MOST_BYTES = 1 << 28
"""Size of the largest file of a picture: 90 million pixels that are not compressed."""
MOST_PIXELS = 1 << 25
"""Number of pixels of the largest picture that `opened` loads: a grid of 8 x 4 pictures of 1024 px."""
MOST_SCANS = 100
"""Largest number of passes over the pixels that a JPEG may ask for; encoders write about ten."""
_PIXELS_PER_BYTE = 12_000
"""Largest ratio of pixels to bytes that `opened` loads: PNG of one colour has a thousand pixels a byte, with a palette
of two colours eight times as many; WebP has more."""
_FREE_PIXELS = 1 << 24
"""Number of pixels that any picture may have, however few bytes it has: 4096 x 4096, all of one colour."""
_PHOTO_PIXELS_PER_BYTE = 64
"""Largest ratio of pixels to bytes of a larger picture: photographs have 10 pixels a byte, drawings 40."""
_START_OF_SCAN = b"\xff\xda"
_JPEG_SIGN = b"\xff\xd8\xff"


def most_pixels(num_bytes: int) -> int:
    """Return the largest number of pixels that are decoded of a picture in so many bytes."""
    return min(max(_FREE_PIXELS, _PHOTO_PIXELS_PER_BYTE * num_bytes), 2 * (Image.MAX_IMAGE_PIXELS or 1 << 30))


def check_size(width: int, height: int, *, num_bytes: int, most: int | None = None) -> None:
    """Refuse a decompression bomb by its header.

    Args:
        width: width in pixels.
        height: height in pixels.
        num_bytes: size of the file.
        most: largest number of pixels; by default, `most_pixels` of the file's size.

    Raises:
        ValueError: it has more. The caller adds which picture it is.
    """
    if width * height > (most_pixels(num_bytes) if most is None else most):
        raise ValueError(f"{width}x{height} pixels in {num_bytes} bytes: could be a decompression bomb")


def is_jpeg(content: bytes) -> bool:
    """Return whether a file begins as every JPEG does."""
    return content.startswith(_JPEG_SIGN)


def check_scans(content: bytes) -> None:
    """Refuse a JPEG that asks for endless work: every scan goes over all pixels, in few bytes.

    Raises:
        ValueError: it has more than `MOST_SCANS`. The caller adds which picture it is.
    """
    if content.count(_START_OF_SCAN) > MOST_SCANS:  # within the pixels' own bytes, FF is always followed by 00
        raise ValueError(f"a JPEG of more than {MOST_SCANS} scans: could be made to do harm")


def open_content(
    content: bytes,
    *,
    formats: tuple[str, ...] = FORMATS,
    check: Callable[[int, int], object] = lambda height, width: None,
    most: int | None = None,
) -> Image.Image:
    """Return the picture in some bytes, its size checked and nothing decoded; the caller closes it.

    Args:
        content: the encoded file.
        formats: formats that Pillow may try.
        check: a function of height and width in the header that raises ValueError for a size that is not wanted.
        most: see `check_size`.

    Raises:
        ValueError: `check` refused it, or it could be a decompression bomb.
        Exception: whatever else Pillow raises; see `unreadable`.
    """
    image = Image.open(io.BytesIO(content), formats=formats)
    try:
        check(image.height, image.width)
        check_size(image.width, image.height, num_bytes=len(content), most=most)
        if is_jpeg(content):
            check_scans(content)
    except BaseException:
        image.close()
        raise
    return image


def unreadable(error: Exception) -> Exception:
    """Return the error to raise in place of a decoder's: one that says why. The caller adds which picture it is.

    A `MemoryError` stays one: sizes are checked before, so the picture need not be its cause.
    """
    if isinstance(error, UnidentifiedImageError):  # its own text shows the address of a buffer
        return ValueError(f"cannot identify image file as one of {', '.join(FORMATS)}, HEIC")
    if isinstance(error, ValueError | MemoryError):
        return error
    return ValueError(str(error) or type(error).__name__)


@contextmanager
def opened(file: BinaryIO, *, source: object) -> Iterator[Image.Image]:
    """Yield the picture in a file, loaded; it is closed after the block.

    Raises:
        FrameworkError: it is no picture of a known format, is damaged, or has too many bytes, or too many pixels for
            its bytes.
    """
    num_bytes = os.fstat(file.fileno()).st_size
    if num_bytes > MOST_BYTES:
        raise FrameworkError(f"{source} has {num_bytes} bytes, more than the {MOST_BYTES} of the largest picture")
    most = min(MOST_PIXELS, _PIXELS_PER_BYTE * num_bytes)
    with decoding(source), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of harmless files; the size is checked here
        try:
            image = open_content(file.read(num_bytes), most=most)
            image.load()  # a cut file must not pass
        except Exception as error:
            raise FrameworkError(f"{source} cannot be read as a picture: {unreadable(error)}") from error
    with image, decoding(source):
        yield image
