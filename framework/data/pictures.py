"""Reads a picture in the same way for packing, for training from shards, and for evaluation.

The rule, for every format:

* it is turned upright, as its EXIF or XMP orientation says;
* it is put on white where it is transparent;
* it gets 8 bits a channel: 16-bit grey is scaled (value / 257, rounded), the high byte of 16-bit colour is taken, and
  32-bit values, which have no fixed range, are refused;
* grey stays grey, everything else (palette, CMYK, YCbCr) becomes RGB by Pillow's conversion; colour profiles are not
  applied;
* the first picture of an animation, or of several pages, is taken.

The content tells the format, not the name. The size is known from the header before a pixel is decoded.
"""

from __future__ import annotations

import functools
import importlib.util
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from framework.utils.pictures import FORMATS, check_scans, check_size, is_jpeg, open_content, unreadable

RULE = "8 bits, upright, on white, first frame"
"""The rule in a few words, for the protocol of an evaluation."""

_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_PNG_SIGN = b"\x89PNG\r\n\x1a\n"
_PNG_MAY_TURN = (b"eXIf", b"iTXtXML:com.adobe.xmp", b"tEXtXML:com.adobe.xmp", b"zTXtRaw profile", b"tEXtRaw profile")
_SEVERAL_STILLS = ("MPO", "HEIF")  # further pictures there are previews or depth, and no frames
_GREY_MODES = ("1", "L", "LA", "La", "I")
_ORIENTATION = 0x0112  # EXIF tag; 1 = upright
_ON_ITS_SIDE = (5, 6, 7, 8)


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        image: the picture in mode "L" or "RGB", without colour profile or comments.
        plain: True if a reader that knows nothing of this rule sees the same pixels, so that the file may be kept.
        animated: True if there were further frames or pages, which are left out.
    """

    image: Image.Image
    plain: bool
    animated: bool


class Header(NamedTuple):
    """The header of a picture: upright height and width in pixels, and channels (1 or 3)."""

    height: int
    width: int
    channels: int


class JpegHeader(NamedTuple):
    """The header of a JPEG: height and width in pixels as stored, and whether it is grey.

    `plain` is True if libjpeg alone reads it by the rule of this module.
    """

    height: int
    width: int
    grey: bool
    plain: bool


def read_picture(
    content: bytes, *, check: Callable[[int, int], object] = lambda height, width: None, alpha: bool = False
) -> Picture:
    """Decode a picture by the rule of this module, and return it.

    Args:
        content: the encoded file.
        check: a function of height and width in the header that raises ValueError for a size that is not wanted.
        alpha: return mode "RGBA", with the picture's transparency instead of a white ground.

    Raises:
        ValueError: it is no picture, is damaged, refused by `check`, has no fixed meaning in 8 bits, or is so large
            that it could be a decompression bomb. The caller adds which picture it is.
    """
    try:
        with open_content(content, formats=_formats_for(content), check=check) as image:
            image.load()
            orientation = _orientation(image, content)
            turned = image if orientation == 1 else ImageOps.exif_transpose(image)
            plain = image.mode in ("L", "RGB") and "transparency" not in image.info
            result = _with_alpha(turned) if alpha else _to_8_bit(turned, pgm=image.format == "PPM")
            several = bool(getattr(image, "is_animated", False))
            plain = plain and orientation == 1 and not several and not _deep_png(content)
            animated = several and image.format not in _SEVERAL_STILLS
    except Exception as error:  # decoders raise whatever their C code raises at foreign bytes
        raise unreadable(error) from error
    result.info.clear()  # colour profiles, comments: encoders would write them into every file
    return Picture(result, plain, animated)


def read_indices(content: bytes, *, check: Callable[[int, int], object] = lambda height, width: None) -> Image.Image:
    """Decode a label map, and return its indices as mode "L": the numbers of a palette's entries, or grey levels.

    Args:
        content: the encoded file, of a format that loses nothing.
        check: see `read_picture`.

    Raises:
        ValueError: it is no such picture, is damaged, refused by `check`, has colours and not indices, or could be a
            decompression bomb. The caller adds which picture it is.
    """
    try:
        with open_content(content, formats=("PNG", "GIF", "TIFF", "BMP", "PPM"), check=check) as image:
            if image.mode not in ("1", "L", "P"):
                raise ValueError(f"has mode {image.mode}; a label map has 8-bit indices: grey levels or a palette")
            image.load()
            turned = image if _orientation(image, content) == 1 else ImageOps.exif_transpose(image)
            if turned.mode == "1":
                return turned.convert("L").point([value // 255 for value in range(256)])
            return Image.frombytes("L", turned.size, turned.tobytes())
    except Exception as error:  # decoders raise whatever their C code raises at foreign bytes
        raise unreadable(error) from error


def picture_header(content: bytes) -> Header:
    """Return size and channels of a picture, without decoding it.

    Raises:
        ValueError: it is no picture, or could be a decompression bomb.
    """
    try:
        if is_jpeg(content):
            found = jpeg_header(content)
            if found.plain:
                return Header(found.height, found.width, 1 if found.grey else 3)
        with open_content(content, formats=_formats_for(content)) as image:
            grey = image.mode in _GREY_MODES or image.mode.startswith("I;16")
            size = (image.height, image.width)
            height, width = size[::-1] if _orientation(image, content) in _ON_ITS_SIDE else size
            return Header(height, width, 1 if grey else 3)
    except Exception as error:
        raise unreadable(error) from error


def jpeg_header(content: bytes) -> JpegHeader:
    """Return the header of a JPEG.

    Raises:
        ValueError: it is no JPEG, or could be a decompression bomb.
    """
    height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    check_size(width, height, num_bytes=len(content))
    check_scans(content)
    colours = colours.lower()
    plain = colours not in ("cmyk", "ycck") and (_is_surely_upright(content) or _exif_orientation(content) == 1)
    return JpegHeader(height, width, colours == "gray", plain)


def _is_surely_upright(content: bytes) -> bool:
    """Return whether nothing before the first scan of a JPEG turns it; to ask Pillow takes half as long as to decode.

    EXIF and XMP stand in segments APP1. False means that Pillow must be asked.
    """
    at, end = 2, len(content) - 4
    while at < end and content[at] == 0xFF:
        marker, size = content[at + 1], content[at + 2] << 8 | content[at + 3]
        if marker == 0xDA:
            break
        if marker == 0xE1 and not _says_upright(content[at + 4 : at + 2 + size]):
            return False
        at += 1 if marker == 0xFF else 2 + size
    return True


def _says_upright(segment: bytes) -> bool:
    """Return whether a segment APP1 holds no orientation, or that of an upright picture; False where it is unclear."""
    if not segment.startswith(b"Exif\0\0"):
        return b"Orientation" not in segment
    tiff = segment[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return False
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(f"{order}HHIH", tiff, at)
            if tag == _ORIENTATION:
                return (kind, number, value) == (3, 1, 1)  # one unsigned 16-bit number
    except struct.error:
        return False
    return True


def _exif_orientation(content: bytes) -> object:
    try:
        with open_content(content, formats=("JPEG",)) as image:
            return _orientation(image, content)
    except Exception as error:
        raise unreadable(error) from error


def _orientation(image: Image.Image, content: bytes) -> object:
    """Return EXIF's number for how a picture is to be turned; 1 for not at all."""
    if content.startswith(_PNG_SIGN) and not _png_may_turn(content):
        return 1  # asking Pillow would decode it
    return image.getexif().get(_ORIENTATION, 1)


def _png_may_turn(content: bytes) -> bool:
    """Return whether a PNG has a chunk that can hold EXIF or XMP; a chunk is length, type, data and checksum."""
    at = len(_PNG_SIGN)
    while at < len(content):
        if content.startswith(_PNG_MAY_TURN, at + 4):
            return True
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return False


def _formats_for(content: bytes) -> tuple[str, ...]:
    """Return the formats that Pillow may try.

    Raises:
        ValueError: it is HEIC, and the reader for that is not installed.
    """
    if content[4:8] != b"ftyp":
        return FORMATS
    box = content[8 : int.from_bytes(content[:4], "big")][:256]
    brands = {box[at : at + 4] for at in range(0, len(box), 4)}
    if brands & _AVIF_BRANDS or not brands & _HEIC_BRANDS:
        return FORMATS
    if not _heic_is_readable():
        raise ValueError("is a HEIC picture, whose reader is not installed: pip install 'framework[heic]'")
    return (*FORMATS, "HEIF")


@functools.cache
def _heic_is_readable() -> bool:
    """Return whether the optional reader of HEIC is installed; the first call registers it with Pillow."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return True


def _deep_png(content: bytes) -> bool:
    """Return whether a PNG is neither 8-bit grey nor 8-bit RGB, though Pillow may show it as such."""
    return content.startswith(_PNG_SIGN) and (content[24] != 8 or content[25] not in (0, 2))


def _to_8_bit(image: Image.Image, *, pgm: bool) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and pgm):  # Pillow scales a PGM of more than 8 bits to 16
        return _from_16_bit(image)
    if mode in ("I", "F"):
        raise ValueError(f"mode {mode} (32-bit values without a fixed range); convert it to 8 or 16 bits")
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        grey = mode in ("L", "LA", "La", "1")
        layer = image.convert("LA") if mode == "La" else image
        canvas = Image.new("RGBA", image.size, "white")
        canvas = Image.alpha_composite(canvas, layer if layer.mode == "RGBA" else layer.convert("RGBA"))
        return canvas.convert("L" if grey else "RGB")
    if mode in ("L", "RGB"):
        return image.copy()
    return image.convert("L" if mode == "1" else "RGB")


def _with_alpha(image: Image.Image) -> Image.Image:
    """Return a picture in mode "RGBA"; one without transparency is opaque."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_8_bit(image, pgm=image.mode == "I").convert("RGBA")
    return image.convert("RGBA")


def _from_16_bit(image: Image.Image) -> Image.Image:
    stored = np.asarray(image)
    values = stored.astype(np.uint32)  # in place from here on: a large picture is held once at this width
    values *= 255
    values += 32767
    values //= 65535
    grey = values.astype(np.uint8)
    clear = image.info.get("transparency")  # PNG: the one value that is transparent
    if isinstance(clear, int):
        grey[stored == clear] = 255
    return Image.fromarray(grey)
