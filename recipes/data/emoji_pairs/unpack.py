"""Write the pairs of this folder's two sheets as files: drawings in A/, pictures in B/, paired by name.

    python recipes/data/emoji_pairs/unpack.py pairs

makes pairs/train/A/1f553.png (lines, grey), pairs/train/B/1f553.png (colours) and so on for 1535 pairs, and the same
under pairs/test/ for the 101 pairs that are held out. A sheet is a table of tiles with 40 columns, filled row by row in
the order of names.json. Files are named after the emoji's code points.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
SIDE, COLUMNS = 64, 40
SHEETS = {"A": "lines.png", "B": "colours.webp"}

_TEST_SHARE = 16
"""One family in so many is held out."""

_PERSON = "1f9d1"
_PEOPLE = {"1f468", "1f469", _PERSON}
"""Man, woman, person: the same drawing but for the hair."""

_JOINTS = {"200d", "fe0f", "2640", "2642", "27a1"}
"""Code points that join others or turn a figure: zero-width joiner, variation, female, male, facing right."""


def family(name: str) -> str:
    """Return what an emoji's variants by gender and direction have in common, so that no split separates them."""
    parts = [_PERSON if part in _PEOPLE else part for part in name.split("-") if part not in _JOINTS]
    return "-".join(parts)


def is_held_out(name: str) -> bool:
    """Return whether a pair belongs to the test split: whether SHA-256 of its family is a multiple of 16."""
    return int(hashlib.sha256(family(name).encode()).hexdigest(), 16) % _TEST_SHARE == 0


def unpack(out: Path) -> dict[str, int]:
    """Write all pairs under `out`, over files of the same names; return the number of pairs of each split."""
    names = json.loads((HERE / "names.json").read_text())
    counts = {"train": 0, "test": 0}
    for folder, file in SHEETS.items():
        sheet = Image.open(HERE / file).convert("L" if folder == "A" else "RGB")
        for split in counts:
            (out / split / folder).mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(names):
            left, top = index % COLUMNS * SIDE, index // COLUMNS * SIDE
            split = "test" if is_held_out(name) else "train"
            sheet.crop((left, top, left + SIDE, top + SIDE)).save(out / split / folder / f"{name}.png")
            counts[split] += folder == "A"
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the pairs of drawings and pictures as files.")
    parser.add_argument("out", type=Path, help="folder that train/A, train/B, test/A and test/B are made in")
    for split, count in unpack(parser.parse_args().out).items():
        print(f"{split}: {count} pairs")
