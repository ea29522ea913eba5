"""Pictures that readers are apt to see differently, 16x16, each with the pixels it must have."""

from __future__ import annotations

import importlib.util
import io
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SIDE = 16
HEIC = importlib.util.find_spec("pillow_heif") is not None
NO_HEIC = "pillow-heif is not installed: pip install 'framework[heic]'"

_RNG = np.random.default_rng(7)
COLOUR = np.kron(_RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
GREY = COLOUR[..., 0]
SOFT = (np.linspace(40, 215, SIDE)[:, None, None] * np.ones((1, SIDE, 3))).astype(np.uint8)  # what survives encoders
_HALF = np.where(np.arange(SIDE)[:, None] < 8, 0, 255) * np.ones((1, SIDE), np.uint8)
HIDDEN = _HALF.astype(np.uint8)
"""Alpha: the upper half is transparent, with colours hidden in it."""


class Odd(NamedTuple):
    """A file and its true pixels, uint8 (16, 16, 3); `tolerance` is what a lossy format costs."""

    suffix: str
    content: bytes
    pixels: np.ndarray
    tolerance: int = 0


def as_file(image: Image.Image, kind: str, **settings: Any) -> bytes:
    """The image encoded."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def rgb(grey: np.ndarray) -> np.ndarray:
    """Grey (H, W) as RGB."""
    return np.repeat(grey[..., None], 3, axis=2)


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _camera(orientation: int) -> Image.Exif:
    """As a camera writes it: other tags before and after."""
    exif = _turned(orientation)
    exif[0x010F], exif[0x0132] = "maker", "2026:01:02 03:04:05"
    return exif


def _other_exif() -> Image.Exif:
    """EXIF that says nothing about orientation."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    return exif


def _bare_exif(order: str, orientation: int) -> bytes:
    """Nothing but an orientation, in one byte order ("<" or ">")."""
    sign = {"<": b"II", ">": b"MM"}[order]
    return b"Exif\0\0" + sign + struct.pack(f"{order}HIHHHIHxxI", 42, 8, 1, 0x0112, 3, 1, orientation, 0)


def _xmp(orientation: int) -> bytes:
    rdf = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    inner = f'<rdf:Description rdf:about="" tiff:Orientation="{orientation}"/>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {rdf}>{inner}</rdf:RDF></x:xmpmeta>'.encode()


def _deep_colour_png() -> bytes:
    """16 bits a channel, which Pillow reads but does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in COLOUR.astype(np.uint16) * 257)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def odd_pictures() -> dict[str, Odd]:
    """Name -> picture."""
    colour, grey, soft = Image.fromarray(COLOUR), Image.fromarray(GREY), Image.fromarray(SOFT)
    deep = (np.arange(SIDE * SIDE, dtype=np.uint16) * 257 - 3).reshape(SIDE, SIDE)
    deep[3, 5] = 40_000
    scaled = rgb(np.round(deep / 257).astype(np.uint8))
    marked = scaled.copy()
    marked[deep == 40_000] = 255
    on_white = np.where(HIDDEN[..., None] == 255, COLOUR, 255)
    palette = colour.quantize(16)
    shown = np.asarray(palette.convert("RGB"))
    clear = int(np.asarray(palette)[0, 0])
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - COLOUR)]}
    upside_down = SOFT[::-1]
    found = {
        "grey16": Odd("png", as_file(Image.fromarray(deep), "PNG"), scaled),
        "grey16-marked": Odd("png", as_file(Image.fromarray(deep), "PNG", transparency=40_000), marked),
        "grey16-tiff": Odd("tiff", as_file(Image.fromarray(deep), "TIFF"), scaled),
        "grey16-pgm": Odd("pgm", b"P5 16 16 65535\n" + deep.astype(">u2").tobytes(), scaled),
        "colour16": Odd("png", _deep_colour_png(), COLOUR),
        "rgba": Odd("png", as_file(Image.fromarray(np.dstack([COLOUR, HIDDEN])), "PNG"), on_white),
        "rgba-webp": Odd(
            "webp",
            as_file(Image.fromarray(np.dstack([COLOUR, HIDDEN])), "WEBP", lossless=True, exact=True),
            on_white,
        ),
        "la": Odd(
            "png",
            as_file(Image.merge("LA", [grey, Image.fromarray(HIDDEN)]), "PNG"),
            rgb(np.where(HIDDEN == 255, GREY, 255)),
        ),
        "palette": Odd("png", as_file(palette, "PNG"), shown),
        "palette-clear": Odd(
            "png",
            as_file(palette, "PNG", transparency=clear),
            np.where(np.asarray(palette)[..., None] == clear, 255, shown),
        ),
        "bits": Odd("png", as_file(Image.fromarray(GREY > 127), "PNG"), rgb(np.where(GREY > 127, 255, 0))),
        "colour-marked": Odd(
            "png",
            as_file(colour, "PNG", transparency=tuple(COLOUR[0, 0].tolist())),
            np.where((COLOUR[0, 0] == COLOUR).all(2, keepdims=True), 255, COLOUR),
        ),
        "cmyk": Odd("jpg", as_file(soft.convert("CMYK"), "JPEG", quality=100), SOFT, 4),
        "turned": Odd("jpg", as_file(soft, "JPEG", quality=100, exif=_turned(3)), upside_down, 4),
        "turned-xmp": Odd("jpeg", as_file(soft, "JPEG", quality=100, xmp=_xmp(3)), upside_down, 4),
        "turned-png": Odd("png", as_file(colour, "PNG", exif=_turned(6)), np.rot90(COLOUR, -1)),
        "turned-webp": Odd("webp", as_file(colour, "WEBP", lossless=True, exif=_turned(8)), np.rot90(COLOUR)),
        "turned-camera": Odd("jpg", as_file(soft, "JPEG", quality=100, exif=_camera(3)), upside_down, 4),
        "turned-little-endian": Odd("jpg", as_file(soft, "JPEG", quality=100, exif=_bare_exif("<", 3)), upside_down, 4),
        "turned-big-endian": Odd("jpg", as_file(soft, "JPEG", quality=100, exif=_bare_exif(">", 3)), upside_down, 4),
        "turned-xmp-beside-exif": Odd(
            "jpg", as_file(soft, "JPEG", quality=100, exif=_other_exif(), xmp=_xmp(3)), upside_down, 4
        ),
        "upright-exif-beside-xmp": Odd(
            "jpg", as_file(soft, "JPEG", quality=100, exif=_turned(1), xmp=_xmp(3)), SOFT, 4
        ),
        "upright-exif": Odd("jpg", as_file(soft, "JPEG", quality=100, exif=_turned(1)), SOFT, 4),
        "gif": Odd("gif", as_file(palette, "GIF", **frames), shown),
        "animated-webp": Odd("webp", as_file(colour, "WEBP", lossless=True, **frames), COLOUR),
        "apng": Odd("png", as_file(colour, "PNG", **frames), COLOUR),
        "avif": Odd("avif", as_file(soft, "AVIF", quality=100), SOFT, 4),
        "turned-avif": Odd("avif", as_file(soft, "AVIF", quality=100, exif=_turned(3)), upside_down, 4),
        "bmp": Odd("bmp", as_file(colour, "BMP"), COLOUR),
        "tiff": Odd("tif", as_file(colour, "TIFF"), COLOUR),
        "misnamed": Odd("jpg", as_file(colour, "PNG"), COLOUR),
        "jpeg-as-png": Odd("png", as_file(soft, "JPEG", quality=100), SOFT, 4),
    }
    if HEIC:
        from pillow_heif import from_pillow

        file = io.BytesIO()
        from_pillow(soft.resize((SIDE, SIDE))).save(file, quality=100)
        found["heic"] = Odd("heic", file.getvalue(), SOFT, 6)
    return found
