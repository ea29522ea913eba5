"""Prepares one picture for a shard: decodes it, makes it 8-bit grey or RGB, pads or crops, resizes, encodes.

Encoder settings are fixed, so that the same picture gives the same bytes with the same Pillow. Pillow's filters widen
with the scale (they antialias), as torchvision's `antialias=True` and StyleGAN's tools do.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, features
from PIL import __version__ as pillow_version

from framework.data.packing.options import Crop, Filter, Kind
from framework.data.pictures import Picture, picture_header, read_indices, read_picture
from framework.data.readers import BadImageError
from framework.data.readers.base import Pixels

_FORMATS = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}
_SETTINGS: dict[str, dict[str, int | bool]] = {
    "png": {"compress_level": 6},
    "webp": {"lossless": True, "quality": 80, "method": 4},
    "jpg": {"quality": 95, "subsampling": 0},
}
_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "hamming": Image.Resampling.HAMMING,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The form that every picture gets; see `PackOptions` for the other fields.

    Attributes:
        sides: resolutions in pixels, ascending.
        resize: True if pictures may be cropped and resized; otherwise they must have the side already.
        channels: 1 or 3.
        grey_only: True if colour is refused: nobody asked for grey, but the first picture is grey.
    """

    sides: tuple[int, ...]
    resize: bool
    channels: int
    grey_only: bool
    encoding: Literal["png", "webp", "jpg", "f32"]
    crop: Crop
    resize_filter: Filter
    pyramid_filter: Filter
    pad: int | None
    field: str = ""
    """The name of the field; "" for the only picture of a sample."""
    kind: Kind = "image"
    shape: tuple[int, int] | None = None
    """Height and width that every picture must have; None for squares of `sides`. Of vectors 1 and how many numbers."""

    @property
    def extension(self) -> str:
        """The ending of the file's name in a shard."""
        return f"{self.field}.{self.encoding}" if self.field else self.encoding

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the largest picture, in pixels."""
        return self.shape[::-1] if self.shape else (self.sides[-1], self.sides[-1])


def encoder_versions(encoding: str) -> str:
    """Return what encoded bytes depend on besides the pixels: the versions of Pillow and of the encoding library."""
    if encoding == "f32":
        return "little-endian float32"
    library = {"png": "zlib_ng" if features.check("zlib_ng") else "zlib", "webp": "webp", "jpg": "libjpeg_turbo"}[
        encoding
    ]
    return f"Pillow {pillow_version}, {library} {features.version(library)}"


class Encoded(NamedTuple):
    """A picture in the target form: one file per side, and whether further frames of it were left out."""

    files: tuple[bytes, ...]
    animated: bool


def open_upright(content: bytes | Pixels) -> Picture:
    """Return a picture by the rule of `framework.data.pictures`; pixels are taken as they are.

    Raises:
        BadImageError: it is no picture, is damaged, has no fixed meaning in 8 bits, or needs too much memory.
    """
    if isinstance(content, np.ndarray):
        return Picture(Image.fromarray(np.ascontiguousarray(content)), plain=False, animated=False)
    try:
        return read_picture(content)
    except ValueError as error:
        raise BadImageError(f"cannot be decoded ({error})") from None
    except MemoryError:
        raise BadImageError("needs more memory than there is; use fewer workers") from None


def encode(content: bytes | Pixels, target: Target) -> Encoded:
    """Return a picture in the target form, encoded: one file per side, in the order of `target.sides`.

    Raises:
        BadImageError: it cannot be decoded or does not fit the target.
    """
    if target.kind == "vector":
        assert isinstance(content, bytes)
        return Encoded((content,), False)
    if target.kind != "image":
        return _encode_layer(content, target)
    image, plain, animated = open_upright(content)
    fits = plain and image.size == target.size
    kept = content if fits and isinstance(content, bytes) and _format(content) == target.encoding else None
    image, same_channels = _to_channels(image, target)
    image = _to_side(image, target)
    smaller = [_resize(image, (side, side), target.pyramid_filter) for side in target.sides[:-1]]
    files = [_encode(picture, target.encoding) for picture in smaller]
    files.append(kept if kept is not None and same_channels else _encode(image, target.encoding))
    return Encoded(tuple(files), animated)


def encode_sample(parts: Sequence[bytes | Pixels], targets: Sequence[Target]) -> tuple[Encoded, ...]:
    """Return all pictures of a sample in their target forms.

    Raises:
        BadImageError: see `encode`; or they have several sizes. Names the field.
    """
    if len(parts) == 1:
        return (encode(parts[0], targets[0]),)
    sizes, found = [], []
    for part, target in zip(parts, targets, strict=True):
        try:
            sizes.append(_size(part))
            if sizes[-1] != sizes[0]:
                (height, width), first = sizes[-1], sizes[0]
                raise BadImageError(f"is {width}x{height}, {targets[0].field} is {first[1]}x{first[0]}; need one size")
            found.append(encode(part, target))
        except BadImageError as error:
            raise BadImageError(f"field {target.field!r}: {error}") from None
    return tuple(found)


def _size(content: bytes | Pixels) -> tuple[int, int]:
    """Return height and width of a picture."""
    if isinstance(content, np.ndarray):
        return content.shape[0], content.shape[1]
    try:
        return picture_header(content)[:2]
    except ValueError as error:
        raise BadImageError(f"cannot be decoded ({error})") from None


def _encode_layer(content: bytes | Pixels, target: Target) -> Encoded:
    """Return a mask or a label map as grey PNG: black and white, or class numbers."""
    animated = False
    if target.kind == "label map" and not isinstance(content, np.ndarray):
        try:
            image = read_indices(content)
        except ValueError as error:
            raise BadImageError(f"cannot be decoded ({error})") from None
        except MemoryError:
            raise BadImageError("needs more memory than there is; use fewer workers") from None
    else:
        image, _, animated = open_upright(content)
    image = image.convert("L")
    if target.kind == "mask":
        image = image.point([255 * (level >= 128) for level in range(256)])
    image = _to_side(image, target)
    smaller = [_resize(image, (side, side), target.pyramid_filter) for side in target.sides[:-1]]
    return Encoded(tuple(_encode(picture, target.encoding) for picture in (*smaller, image)), animated)


def _format(content: bytes) -> str:
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if content[:3] == b"\xff\xd8\xff":
        return "jpg"
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else ""


def _to_channels(image: Image.Image, target: Target) -> tuple[Image.Image, bool]:
    """Return the picture with the target's channels, and whether its own file in the target's format would do."""
    mode = "L" if target.channels == 1 else "RGB"
    if image.mode == mode:
        return image, True
    converted = image.convert(mode)
    if mode == "RGB":
        return converted, False
    grey = np.array_equal(np.asarray(converted.convert("RGB")), np.asarray(image))
    if target.grey_only and not grey:
        raise BadImageError("has colour, but the first picture is grey: ask for channels 3, or 1 to make all grey")
    return converted, grey and target.encoding == "webp"  # WebP has no grey of its own


def _to_side(image: Image.Image, target: Target) -> Image.Image:
    top, (width, height) = target.sides[-1], image.size
    if target.shape is not None:
        if image.size != target.size:
            first = "x".join(map(str, target.size))
            raise BadImageError(f"is {width}x{height}, the first picture is {first}: give a resolution")
        return image
    if target.pad is not None:
        if max(width, height) > target.pad:
            raise BadImageError(f"is {width}x{height}, larger than pad = {target.pad}")
        canvas = Image.new(image.mode, (target.pad, target.pad))
        canvas.paste(image, ((target.pad - width) // 2, (target.pad - height) // 2))
        return _resize(canvas, (top, top), target.resize_filter)
    if (width, height) == (top, top):
        return image
    if not target.resize:
        raise BadImageError(f"is {width}x{height}, the first picture is {top}x{top}: give a resolution")
    if target.crop == "none":
        return _resize(image, (top, top), target.resize_filter)
    if target.crop == "center":
        return _resize(image.crop(_centre(width, height, 1.0)), (top, top), target.resize_filter)
    bar = round(top / 8)
    inner = (top, top - 2 * bar)
    canvas = Image.new(image.mode, (top, top))
    cropped = image.crop(_centre(width, height, inner[0] / inner[1]))
    canvas.paste(_resize(cropped, inner, target.resize_filter), (0, bar))
    return canvas


def _resize(image: Image.Image, size: tuple[int, int], resize_filter: Filter) -> Image.Image:
    if image.size == size:
        return image
    factor = image.width // size[0], image.height // size[1]
    if resize_filter == "box" and image.size == (factor[0] * size[0], factor[1] * size[1]):
        return image.reduce(factor)  # the exact mean; `resize` rounds between its two passes
    return image.resize(size, _FILTERS[resize_filter])


def _centre(width: int, height: int, aspect: float) -> tuple[int, int, int, int]:
    """Return the largest box of this width : height in the middle of a picture: left, upper, right, lower in pixels."""
    box_width, box_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, upper = (width - box_width) // 2, (height - box_height) // 2
    return left, upper, left + box_width, upper + box_height


def _encode(image: Image.Image, encoding: str) -> bytes:
    file = io.BytesIO()
    if encoding == "webp" and image.mode == "L":
        image = image.convert("RGB")  # the form WebP stores; converting back is exact
    image.save(file, format=_FORMATS[encoding], **_SETTINGS[encoding])
    return file.getvalue()
