"""Pictures from elsewhere, opened within bounds; see `framework.utils.bounded` for the rule.

The one place where Pillow is given foreign bytes. What the pixels mean is the matter of `framework.data.pictures`.
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
"""Plain pictures; JPEG includes MPO. Pillow knows others, some of which start programs or read further files."""
MOST_BYTES = 1 << 28
"""The largest file of a picture: 90 million pixels that are not compressed."""
MOST_PIXELS = 1 << 25
"""A grid of 8 x 4 pictures of 1024 px."""
MOST_SCANS = 100
"""Passes over the pixels that one JPEG may ask for; encoders write about ten."""
_PIXELS_PER_BYTE = 12_000
"""Flat pictures in PNG have a thousand pixels a byte, in palettes of two colours eight times as many; WebP has more."""
_FREE_PIXELS = 1 << 24
"""What any picture may have, however few bytes: 4096 x 4096, all of one colour."""
_PHOTO_PIXELS_PER_BYTE = 64
"""Beyond that, what its bytes can tell: photographs have 10 pixels a byte, drawings 40."""
_START_OF_SCAN = b"\xff\xda"
_JPEG_SIGN = b"\xff\xd8\xff"


def most_pixels(num_bytes: int) -> int:
    """The most pixels that are decoded of a picture in so many bytes."""
    return min(max(_FREE_PIXELS, _PHOTO_PIXELS_PER_BYTE * num_bytes), 2 * (Image.MAX_IMAGE_PIXELS or 1 << 30))


def check_size(width: int, height: int, *, num_bytes: int, most: int | None = None) -> None:
    """Refuse a decompression bomb by its header.

    Args:
        num_bytes: size of the file.
        most: the most pixels; by default, `most_pixels` of its size.

    Raises:
        ValueError: it has more. The caller adds which picture it is.
    """
    if width * height > (most_pixels(num_bytes) if most is None else most):
        raise ValueError(f"{width}x{height} pixels in {num_bytes} bytes: could be a decompression bomb")


def is_jpeg(content: bytes) -> bool:
    """Whether a file begins as every JPEG does."""
    return content.startswith(_JPEG_SIGN)


def check_scans(content: bytes) -> None:
    """Refuse a JPEG that asks for endless work: every scan goes over all pixels, in few bytes.

    Raises:
        ValueError: more than `MOST_SCANS`. The caller adds which picture it is.
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
    """The picture in some bytes, its size checked and nothing decoded; to be closed.

    Args:
        content: the encoded file.
        formats: what Pillow may try.
        check: given height and width of the header, raises ValueError for a size that is not wanted.
        most: see `check_size`.

    Raises:
        ValueError: refused by `check`, or a bomb. Exception: whatever else Pillow raises; see `unreadable`.
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
    """What to raise in place of an error of a decoder: one that says why. The caller adds which picture it is.

    A `MemoryError` stays one: sizes are checked before, so that it need not be the picture's fault.
    """
    if isinstance(error, UnidentifiedImageError):  # its own text shows the address of a buffer
        return ValueError(f"cannot identify image file as one of {', '.join(FORMATS)}, HEIC")
    if isinstance(error, ValueError | MemoryError):
        return error
    return ValueError(str(error) or type(error).__name__)


@contextmanager
def opened(file: BinaryIO, *, source: object) -> Iterator[Image.Image]:
    """The picture in a file, loaded.

    Raises:
        FrameworkError: it is no picture of a known format, is damaged, or has more pixels than its bytes could tell.
    """
    num_bytes = os.fstat(file.fileno()).st_size
    if num_bytes > MOST_BYTES:
        raise FrameworkError(f"{source} has {num_bytes} bytes, more than the {MOST_BYTES} of the largest picture")
    most = min(MOST_PIXELS, _PIXELS_PER_BYTE * num_bytes)
    with decoding(source), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd but harmless files; size is checked here
        try:
            image = open_content(file.read(num_bytes), most=most)
            image.load()  # a cut file must not pass
        except Exception as error:
            raise FrameworkError(f"{source} cannot be read as a picture: {unreadable(error)}") from error
    with image, decoding(source):
        yield image
