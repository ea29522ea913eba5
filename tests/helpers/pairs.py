"""Small pairs of pictures: grey drawings of coloured squares, packed as the recipes of translation read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.pictures import pack_quietly


def packed_pairs(folder: Path, *, count: int, side: int = 16, seed: int = 0) -> Path:
    """Pack pairs under `folder / "packed"`: in `source` the outline of a square, in `target` the square in a colour."""
    random = np.random.default_rng(seed)
    for number in range(count):
        left, top = random.integers(1, side // 2, 2)
        drawn, coloured = np.full((side, side), 255, np.uint8), np.full((side, side, 3), 255, np.uint8)
        inside = (slice(top, top + side // 3), slice(left, left + side // 3))
        drawn[inside] = 0
        coloured[inside] = random.integers(0, 200, 3)
        for name, pixels in (("A", drawn), ("B", coloured)):
            path = folder / "pairs" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    pack_quietly(folder / "pairs", folder / "packed", fields=("source", "target"), folders=("A", "B"))
    return folder / "packed"
