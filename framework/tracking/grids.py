"""Sample grids, made by numpy and Pillow alone.

The layout that shows most of a class-conditional generator is one class per column: `class_columns` gives the labels
to draw, `image_grid` lays the images out and can write the class names above them.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from framework.utils.errors import FrameworkError

Pixels = NDArray[np.uint8]

_LABEL_FONT_SIZES = (14, 13, 12, 11, 10, 9, 8)
_LABEL_MARGIN = 3
_BACKGROUND = 255
_INK = 0


def class_columns(num_classes: int, *, rows: int) -> NDArray[np.int64]:
    """Return the labels `(rows * num_classes,)` of a row-major grid whose column j shows class j only.

    Raises:
        FrameworkError: no classes or no rows.
    """
    if num_classes < 1 or rows < 1:
        raise FrameworkError(f"a grid needs classes and rows, got num_classes={num_classes} and rows={rows}")
    return np.tile(np.arange(num_classes, dtype=np.int64), rows)


def image_grid(
    images: Pixels,
    *,
    columns: int,
    padding: int = 2,
    labels: Sequence[str] | None = None,
    scale: int = 1,
) -> Pixels:
    """Lay images out row by row on white.

    Args:
        images: `(N, C, H, W)` uint8 with C 1 or 3. The last row may be short.
        columns: images per row.
        padding: pixels between neighbours and around the grid.
        labels: text above each column; shrunk, then cut, until it fits.
        scale: repeats every pixel so many times in both directions, for small images under readable labels.

    Returns:
        The grid, `(H', W', C)` uint8, with the channels of the images.

    Raises:
        FrameworkError: wrong shape, dtype or count.
    """
    _check(images, columns=columns, padding=padding, labels=labels, scale=scale)
    if scale > 1:
        images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    num, channels, height, width = images.shape
    rows = -(-num // columns)
    header = _header(labels, width=width, padding=padding, columns=columns) if labels else None
    top = header.shape[0] if header is not None else 0
    grid = np.full(
        (top + padding + rows * (height + padding), padding + columns * (width + padding), channels),
        _BACKGROUND,
        dtype=np.uint8,
    )
    if header is not None:
        grid[:top] = header[:, :, None]
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        y, x = top + padding + row * (height + padding), padding + column * (width + padding)
        grid[y : y + height, x : x + width] = image.transpose(1, 2, 0)
    return grid


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


def save_png(path: Path | str, pixels: Pixels) -> None:
    """Write pixels (see `to_image`) as PNG, whole or not at all; parent folders are made.

    Raises:
        FrameworkError: the pixels are no image.
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        # Level 1 takes half the time of the default and costs about a tenth in size on samples.
        to_image(pixels).save(temporary, format="PNG", compress_level=1)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check(images: Pixels, *, columns: int, padding: int, labels: Sequence[str] | None, scale: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise FrameworkError(
            f"a grid needs uint8 images (N, C, H, W) with C 1 or 3 and N > 0, got {images.dtype} {images.shape}"
        )
    if columns < 1 or padding < 0 or scale < 1:
        raise FrameworkError(
            f"a grid needs columns >= 1, padding >= 0, scale >= 1; got columns={columns}, padding={padding}, "
            f"scale={scale}"
        )
    if labels and len(labels) != columns:
        raise FrameworkError(f"{len(labels)} labels for {columns} columns: give one label per column")


def _header(labels: Sequence[str], *, width: int, padding: int, columns: int) -> Pixels:
    """Return `(H, W)` pixels with each label centred over its column, all in one size."""
    room = width + padding - 1
    font = next((f for f in map(_font, _LABEL_FONT_SIZES) if _widest(labels, f) <= room), _font(_LABEL_FONT_SIZES[-1]))
    ascent, descent = _line_height(font)
    header = Image.new("L", (padding + columns * (width + padding), ascent + descent + 2 * _LABEL_MARGIN), _BACKGROUND)
    draw = ImageDraw.Draw(header)
    for column, label in enumerate(labels):
        text = _fit(label, font, room=room)
        x = padding + column * (width + padding) + (width - font.getlength(text)) / 2
        draw.text((x, _LABEL_MARGIN + ascent), text, fill=_INK, font=font, anchor="ls")
    return np.asarray(header)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise FrameworkError(
            "labels need Pillow with FreeType: install a Pillow wheel, or draw the grid without labels"
        )
    return font


def _line_height(font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    ascent, descent = font.getmetrics()
    return ascent, descent


def _widest(labels: Sequence[str], font: ImageFont.FreeTypeFont) -> float:
    return max(font.getlength(label) for label in labels)


def _fit(label: str, font: ImageFont.FreeTypeFont, *, room: int) -> str:
    if font.getlength(label) <= room:
        return label
    while label and font.getlength(label + "…") > room:
        label = label[:-1]
    return label + "…"
