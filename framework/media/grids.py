"""Pictures side by side, drawn by numpy and Pillow alone.

The layout that shows most of a class-conditional generator is one class per column: `class_columns` gives the labels
to draw. Pairs and what is made of them (input, output, target) are named rows or columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from framework.media.base import Media, Pixels, check_text, check_texts, kept, listed, png, shortened, to_image
from framework.utils.atomic import replacing
from framework.utils.errors import FrameworkError

_READABLE_PIXELS = 64
_LABEL_FONT_SIZES = (14, 13, 12, 11, 10, 9, 8)
_LABEL_MARGIN = 3
_ROW_LABEL_MARGIN = 6
_MOST_ROW_LABEL_PIXELS = 200
_BACKGROUND = 255
_INK = 0


@dataclass(frozen=True, eq=False)
class PictureGrid(Media):
    """Pictures laid out row by row on white.

    Attributes:
        pictures: `(N, C, H, W)` uint8 with C 1 or 3. The last row may be short.
        columns: pictures per row.
        column_names: text above each column; shrunk, then cut, until it fits.
        row_names: text before each row; cut where it is longer than a row's name may be.
        scale: repeats every pixel so many times in both directions, for small pictures under readable names.
        padding: pixels between neighbours and around the grid.
        title: what the pictures are, for the description.

    Raises:
        FrameworkError: wrong shape, dtype or count, or a name that cannot be drawn.
    """

    suffix: ClassVar[str] = ".png"
    form: ClassVar[str] = "pictures"

    pictures: Pixels
    _: KW_ONLY
    columns: int
    column_names: Sequence[str] = ()
    row_names: Sequence[str] = ()
    scale: int = 1
    padding: int = 2
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", kept(self.pictures))
        object.__setattr__(self, "column_names", check_texts(self.column_names, what="a column's name"))
        object.__setattr__(self, "row_names", check_texts(self.row_names, what="a row's name"))
        check_text(self.title, what="the title of a grid")
        _check(
            self.pictures,
            columns=self.columns,
            padding=self.padding,
            labels=self.column_names,
            row_labels=self.row_names,
            scale=self.scale,
        )

    @classmethod
    def of_pixels(cls, pixels: Pixels) -> PictureGrid:
        """Return one picture, `(H, W, 3)`, `(H, W, 1)` or `(H, W)` uint8, with nothing around it.

        Raises:
            FrameworkError: the pixels are no picture.
        """
        to_image(pixels)
        channels_last = pixels if pixels.ndim == 3 else pixels[:, :, None]
        return cls(channels_last.transpose(2, 0, 1)[None], columns=1, padding=0)

    @classmethod
    def of_rows(cls, rows: Mapping[str, Pixels], *, scale: int = 1, title: str = "") -> PictureGrid:
        """Return named rows, each `(K, C, H, W)`: `{"input": ..., "output": ..., "target": ...}`.

        Grey rows among coloured ones become coloured.

        Raises:
            FrameworkError: the rows differ in shape, or one is no pictures.
        """
        several = _alike(rows)
        pictures = np.concatenate(several)
        return cls(pictures, columns=len(several[0]), row_names=list(rows), scale=scale, title=title)

    @classmethod
    def of_columns(cls, columns: Mapping[str, Pixels], *, scale: int = 1, title: str = "") -> PictureGrid:
        """Return named columns, each `(K, C, H, W)`; otherwise as `of_rows`, and easier to read on a narrow screen."""
        pictures = np.stack(_alike(columns), axis=1)
        return cls(
            pictures.reshape(-1, *pictures.shape[2:]),
            columns=len(columns),
            column_names=list(columns),
            scale=scale,
            title=title,
        )

    @property
    def description(self) -> str:
        """What is shown, the number and size of the pictures, and the names of columns and rows."""
        count, _, height, width = self.pictures.shape
        size = f"{count} picture{'s' * (count > 1)} of {width} x {height} pixels"
        parts = [f"{self.title}: {size}" if self.title else size]
        parts += [f"in columns {listed(self.column_names)}"] if self.column_names else []
        parts += [f"in rows {listed(self.row_names)}"] if self.row_names else []
        return shortened(", ".join(parts))

    def encode(self) -> bytes:
        """Return the grid as a PNG file."""
        return png(self.pixels())

    def pixels(self) -> Pixels:
        """Return the grid as drawn, `(H', W', C)` uint8."""
        return image_grid(
            self.pictures,
            columns=self.columns,
            padding=self.padding,
            labels=self.column_names or None,
            row_labels=self.row_names or None,
            scale=self.scale,
        )


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
    row_labels: Sequence[str] | None = None,
    scale: int = 1,
) -> Pixels:
    """Lay images out row by row on white.

    Args:
        images: `(N, C, H, W)` uint8 with C 1 or 3. The last row may be short.
        columns: images per row.
        padding: pixels between neighbours and around the grid.
        labels: text above each column; shrunk, then cut, until it fits.
        row_labels: text before each row.
        scale: repeats every pixel so many times in both directions, for small images under readable labels.

    Returns:
        The grid, `(H', W', C)` uint8, with the channels of the images.

    Raises:
        FrameworkError: wrong shape, dtype or count.
    """
    _check(images, columns=columns, padding=padding, labels=labels, row_labels=row_labels, scale=scale)
    if scale > 1:
        images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    num, channels, height, width = images.shape
    rows = -(-num // columns)
    header = _header(labels, width=width, padding=padding, columns=columns) if labels else None
    margin = _row_header(row_labels, height=height, padding=padding) if row_labels else None
    top = header.shape[0] if header is not None else 0
    left = margin.shape[1] if margin is not None else 0
    grid = np.full(
        (top + padding + rows * (height + padding), left + padding + columns * (width + padding), channels),
        _BACKGROUND,
        dtype=np.uint8,
    )
    if header is not None:
        grid[:top, left:] = header[:, :, None]
    if margin is not None:
        grid[top:, :left] = margin[:, :, None]
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        y, x = top + padding + row * (height + padding), left + padding + column * (width + padding)
        grid[y : y + height, x : x + width] = image.transpose(1, 2, 0)
    return grid


def save_png(path: Path | str, pixels: Pixels) -> None:
    """Write pixels (see `to_image`) as PNG, whole or not at all; parent folders are made.

    Raises:
        FrameworkError: the pixels are no image.
        OSError: the file cannot be written.
    """
    content = png(pixels)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def _check(
    images: Pixels,
    *,
    columns: int,
    padding: int,
    labels: Sequence[str] | None,
    row_labels: Sequence[str] | None,
    scale: int,
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
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
    rows = -(-len(images) // columns)
    if row_labels and len(row_labels) != rows:
        raise FrameworkError(f"{len(row_labels)} labels for {rows} rows: give one label per row")


def readable_scale(side: int) -> int:
    """Return the scale at which pictures of `side` pixels can be looked at: small ones are shown at about 64."""
    return max(1, _READABLE_PIXELS // side)


def _alike(named: Mapping[str, Pixels]) -> list[Pixels]:
    """Return the arrays of a mapping with the channels of the most colourful."""
    arrays = {name: np.asarray(array) for name, array in named.items()}
    for name, array in arrays.items():
        if array.ndim != 4 or array.shape[1] not in (1, 3):
            raise FrameworkError(f"{name!r} must be pictures (K, C, H, W) with C 1 or 3, got shape {array.shape}")
    if len({(len(array), *array.shape[2:]) for array in arrays.values()}) != 1:
        told = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise FrameworkError(f"a grid needs as many pictures of one size under each name, got {told or 'none'}")
    channels = max(array.shape[1] for array in arrays.values())
    return [array if array.shape[1] == channels else array.repeat(channels, axis=1) for array in arrays.values()]


def _header(labels: Sequence[str], *, width: int, padding: int, columns: int) -> Pixels:
    """Return `(H, W)` pixels with each label centred over its column, all in one size."""
    room = width + padding - 1
    font = _largest_font(lambda font: _widest(labels, font) <= room)
    ascent, descent = _line_height(font)
    header = Image.new("L", (padding + columns * (width + padding), ascent + descent + 2 * _LABEL_MARGIN), _BACKGROUND)
    draw = ImageDraw.Draw(header)
    for column, label in enumerate(labels):
        text = _fit(label, font, room=room)
        x = padding + column * (width + padding) + (width - font.getlength(text)) / 2
        draw.text((x, _LABEL_MARGIN + ascent), text, fill=_INK, font=font, anchor="ls")
    return np.asarray(header)


def _row_header(labels: Sequence[str], *, height: int, padding: int) -> Pixels:
    """Return `(H, W)` pixels with each label before the middle of its row, all in one size, aligned to the right."""
    font = _largest_font(
        lambda font: sum(_line_height(font)) <= height + padding and _widest(labels, font) <= _MOST_ROW_LABEL_PIXELS
    )
    texts = [_fit(label, font, room=_MOST_ROW_LABEL_PIXELS) for label in labels]
    width = int(np.ceil(_widest(texts, font))) + 2 * _ROW_LABEL_MARGIN
    margin = Image.new("L", (width, padding + len(labels) * (height + padding)), _BACKGROUND)
    draw = ImageDraw.Draw(margin)
    for row, text in enumerate(texts):
        y = padding + row * (height + padding) + height / 2
        draw.text((width - _ROW_LABEL_MARGIN, y), text, fill=_INK, font=font, anchor="rm")
    return np.asarray(margin)


def _largest_font(fits: Callable[[ImageFont.FreeTypeFont], bool]) -> ImageFont.FreeTypeFont:
    return next((font for font in map(_font, _LABEL_FONT_SIZES) if fits(font)), _font(_LABEL_FONT_SIZES[-1]))


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
