"""Decodes pictures into uint8 arrays. Nothing here can run code found in the data.

JPEG is decoded by libjpeg-turbo (`simplejpeg`), which can also reduce the side to 1/2, 1/4 or 1/8 as it decodes.
`framework.data.pictures` reads everything else, and a JPEG for which libjpeg does not follow its rule. Sizes are read
from the header and checked before a pixel is decoded, so a decompression bomb is refused and not unpacked.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import simplejpeg
from PIL import Image

from framework.data.pictures import jpeg_header, read_indices, read_picture
from framework.utils.pictures import is_jpeg, unreadable

Size = int | tuple[int, int]
"""A side in pixels, or height and width."""

_MAX_DCT_FACTOR = 8


def height_and_width(size: Size) -> tuple[int, int]:
    """Return height and width in pixels."""
    return (size, size) if isinstance(size, int) else size


def reduction(stored: tuple[int, int], wanted: tuple[int, int]) -> int:
    """Return by which power of two pictures are larger than wanted; both sizes are heights and widths in pixels.

    Raises:
        ValueError: they are not 1, 2, 4, 8, ... times as large. The caller adds shard and key.
    """
    factor = stored[0] // wanted[0]
    if stored != (factor * wanted[0], factor * wanted[1]) or factor.bit_count() != 1:
        raise ValueError(f"picture is {stored[1]}x{stored[0]} pixels, need {wanted[1]}x{wanted[0]}")
    return factor


class PictureDecoder:
    """Decodes pictures into given arrays, all of one size; keeps scratch memory, so use one per thread.

    Args:
        resolution: side of the result in pixels, or its height and width. A picture 2, 4, 8, ... times as large is
            box-filtered down.
        channels: 1 (grey) or 3 (RGB); pictures of the other kind are converted.
        channels_last: give (H, W, C), the order in which JPEG is decoded, and not planes (C, H, W).
    """

    def __init__(self, *, resolution: Size, channels: int, channels_last: bool = False) -> None:
        self.size = height, width = height_and_width(resolution)
        self.channels = channels
        self._planar = channels == 3 and not channels_last
        shape = (height, width, 4 if self._planar else channels)
        # Reversing the bytes of a row mirrors it and reverses its colours, so mirrored rows are decoded in reverse.
        self._layout, self._reverse = ("RGBX", "XBGR") if self._planar else ("RGB", "BGR")
        if channels == 1:
            self._layout = self._reverse = "GRAY"
        self._pixels, self._mirrored = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        self._half = np.empty((height, width), np.uint16)

    def decode(self, data: bytes, out: np.ndarray, *, flip: bool = False) -> bool:
        """Decode into `out`, by the rule of `framework.data.pictures`, and return whether there were further frames.

        Args:
            data: the encoded picture.
            out: pixels from 0 to 255, uint8 (C, H, W), or (H, W, C) with channels_last; C-contiguous; filled.
            flip: mirror left to right.

        Raises:
            ValueError: it cannot be decoded, is truncated, or has sides that are not those of the result times a
                power of two. The caller adds shard and key.
        """
        through = self._planar or flip
        pixels = self._pixels if through else out.reshape(self._pixels.shape)
        layout = self._reverse if flip else self._layout
        animated = False
        try:
            if not (is_jpeg(data) and self._decode_jpeg(data, layout, pixels)):
                animated = self._decode_other(data, layout, pixels)
        except Exception as error:  # decoders raise whatever their C code raises at foreign bytes
            raise unreadable(error) from error
        if flip:
            pixels = self._mirrored if self._planar else out
            reverse_rows(self._pixels.reshape(self.size[0], -1), pixels.reshape(self.size[0], -1))
        if self._planar:
            self._split_planes(pixels.view(np.uint32)[:, :, 0], out)
        return animated

    def _decode_jpeg(self, data: bytes, layout: str, pixels: np.ndarray) -> bool:
        """Decode an upright JPEG of grey or YCbCr; return False for any other, which the general reader must decode."""
        least_height, least_width = self.size
        header = jpeg_header(data)
        factor = self._factor(header.height, header.width)
        if not header.plain:
            return False
        if factor <= _MAX_DCT_FACTOR:
            simplejpeg.decode_jpeg(data, layout, min_height=least_height, min_width=least_width, buffer=pixels)
            return True
        colours = "GRAY" if layout == "GRAY" else "RGB"
        smallest = simplejpeg.decode_jpeg(data, colours, min_factor=_MAX_DCT_FACTOR, min_height=1, min_width=1)
        self._reduce(Image.fromarray(smallest.squeeze()), factor // _MAX_DCT_FACTOR, layout, pixels)
        return True

    def _decode_other(self, data: bytes, layout: str, pixels: np.ndarray) -> bool:
        picture = read_picture(data, check=self._factor)
        mode, factor = "L" if layout == "GRAY" else "RGB", self._factor(picture.image.height, picture.image.width)
        image = picture.image if picture.image.mode == mode else picture.image.convert(mode)
        self._reduce(image, factor, layout, pixels)
        return picture.animated

    def _reduce(self, picture: Image.Image, factor: int, layout: str, pixels: np.ndarray) -> None:
        if factor > 1:
            picture = picture.reduce(factor)
        data = picture.tobytes("raw", "L" if layout == "GRAY" else layout)
        np.copyto(pixels, np.frombuffer(data, np.uint8).reshape(pixels.shape))

    def _factor(self, height: int, width: int) -> int:
        return reduction((height, width), self.size)

    def _split_planes(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Copy RGBX pixels, uint32 (H, W), to planes, uint8 (3, H, W), by narrowing casts; `pixels` is overwritten.

        Casts and shifts are vectorised, a strided byte copy is not: 25 us against 60 us at 256 px, where decoding
        takes 200 us.
        """
        low = self._half
        np.copyto(low, pixels, casting="unsafe")
        np.copyto(out[0], low, casting="unsafe")
        np.right_shift(low, 8, out=low)
        np.copyto(out[1], low, casting="unsafe")
        np.right_shift(pixels, 16, out=pixels)
        np.copyto(out[2], pixels, casting="unsafe")


class LayerDecoder:
    """Decodes what has no fast path: pictures with transparency, masks and label maps.

    Args:
        resolution: side of the result in pixels, or its height and width.
        kind: "alpha" gives RGBA, of which larger pictures are box-filtered down; "mask" gives 1 where a grey level is
            at least 128, else 0; "indices" gives the numbers of a label map. Of larger masks and label maps, the pixel
            right below the middle of each square is taken.
        classes: number of indices that a label map may hold.
        channels_last: give (H, W, 4) for "alpha", and not planes.
    """

    def __init__(
        self,
        *,
        resolution: Size,
        kind: Literal["alpha", "mask", "indices"],
        classes: int = 256,
        channels_last: bool = False,
    ) -> None:
        self.size, self._kind, self._classes = height_and_width(resolution), kind, classes
        self._last, self.has_channels = channels_last, kind == "alpha"

    def decode(self, data: bytes, out: np.ndarray, *, flip: bool = False) -> bool:
        """Decode into `out`, uint8 (H, W), or for "alpha" (4, H, W); see `PictureDecoder.decode`.

        Raises:
            ValueError: see `PictureDecoder.decode`; or an index of a label map is not below the number of classes.
        """
        animated = False
        if self._kind == "indices":
            pixels = self._nearest(read_indices(data, check=self._factor))
            if (most := int(pixels.max())) >= self._classes:
                raise ValueError(f"holds the index {most}, must be below the number of classes, {self._classes}")
        elif self._kind == "mask":
            picture = read_picture(data, check=self._factor)
            pixels, animated = self._nearest(picture.image.convert("L")) >= 128, picture.animated
        else:
            picture = read_picture(data, check=self._factor, alpha=True)
            factor = self._factor(picture.image.height, picture.image.width)
            pixels, animated = np.asarray(picture.image.reduce(factor)), picture.animated
        pixels = pixels[:, ::-1] if flip else pixels
        np.copyto(out, pixels if self._last or not self.has_channels else pixels.transpose(2, 0, 1))
        return animated

    def _nearest(self, image: Image.Image) -> np.ndarray:
        factor = self._factor(image.height, image.width)
        return np.asarray(image)[factor // 2 :: factor, factor // 2 :: factor]

    def _factor(self, height: int, width: int) -> int:
        return reduction((height, width), self.size)


def reverse_rows(rows: np.ndarray, out: np.ndarray) -> None:
    """Reverse the bytes of each row: from `rows`, uint8 (rows, n), to `out`, uint8 (rows, n).

    Whole 8-byte words are reversed, then their bytes by a change of byte order: 13 us against 60 us at 256 px.
    """
    if rows.shape[-1] % 8:
        out[...] = rows[:, ::-1]
    else:
        out.view("<u8")[...] = rows.view(">u8")[:, ::-1]
