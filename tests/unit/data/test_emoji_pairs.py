"""The vendored pairs of drawings and pictures: what unpacking writes, what is held out, and how drawings are made."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[3] / "recipes/data/emoji_pairs"


@pytest.fixture(scope="module")
def scripts() -> tuple[ModuleType, ModuleType]:
    """The folder's two programs, which find each other as programs of one folder do."""
    sys.path.insert(0, str(FOLDER))
    try:
        import draw
        import unpack
    finally:
        sys.path.remove(str(FOLDER))
    return unpack, draw


@pytest.fixture(scope="module")
def pairs(scripts: tuple[ModuleType, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpack, _ = scripts
    out = tmp_path_factory.mktemp("pairs")
    assert unpack.unpack(out) == {"train": 1535, "test": 101}
    return out


def test_drawings_and_pictures_are_paired_by_name(pairs: Path, scripts: tuple[ModuleType, ModuleType]) -> None:
    """A drawing has the lines that its picture's colours give, and not another's."""
    _, draw = scripts
    names = {split: sorted(path.name for path in (pairs / split / "A").iterdir()) for split in ("train", "test")}
    for split, count in {"train": 1535, "test": 101}.items():
        assert names[split] == sorted(path.name for path in (pairs / split / "B").iterdir())
        assert len(names[split]) == count
    shared, strange = [], []
    tested = names["test"]
    for name, other in zip(tested, [*tested[1:], tested[0]], strict=True):
        lines, picture = (Image.open(pairs / "test" / folder / name) for folder in ("A", "B"))
        assert (lines.mode, lines.size, picture.mode, picture.size) == ("L", (64, 64), "RGB", (64, 64))
        drawn = np.asarray(lines) == 0
        assert set(np.unique(np.asarray(lines)).tolist()) <= {0, 255}
        computed = draw.drawing(np.asarray(picture)) == 0
        shared.append((drawn & computed).sum() / max(drawn.sum(), 1))
        strange.append((np.asarray(Image.open(pairs / "test" / "A" / other)) == 0)[computed].mean())
    # The pictures were compressed after the drawings were made: some edges have moved by a pixel.
    assert np.mean(shared) > 0.85
    assert np.mean(strange) < 0.25


def test_what_is_held_out(scripts: tuple[ModuleType, ModuleType]) -> None:
    unpack, _ = scripts
    names = json.loads((FOLDER / "names.json").read_text())
    assert len(set(names)) == len(names) == 1636
    artist = ["1f468-200d-1f3a8", "1f469-200d-1f3a8", "1f9d1-200d-1f3a8"]
    assert set(artist) <= set(names)
    assert {unpack.family(name) for name in artist} == {"1f9d1-1f3a8"}
    runner = ["1f3c3", "1f3c3-200d-2640-fe0f", "1f3c3-200d-2642-fe0f-200d-27a1-fe0f"]
    assert {unpack.family(name) for name in runner} == {"1f3c3"}
    assert unpack.family("1f468-200d-1f467") != unpack.family("1f468-200d-1f466"), "children are other drawings"
    held_out = {unpack.family(name) for name in names if unpack.is_held_out(name)}
    assert not held_out & {unpack.family(name) for name in names if not unpack.is_held_out(name)}


def test_drawings(scripts: tuple[ModuleType, ModuleType]) -> None:
    """A filled square becomes a closed outline; a faint step is not drawn, unless it goes on from a strong edge."""
    _, draw = scripts
    picture = np.full((64, 64, 3), 255, dtype=np.uint8)
    assert (draw.drawing(picture) == 255).all()
    picture[20:40, 20:40, 2] = 0  # in one channel only
    drawn = draw.drawing(picture) == 0
    rows, columns = drawn.nonzero()
    assert {rows.min(), columns.min()} <= {19, 20}
    assert {rows.max(), columns.max()} <= {39, 40}
    assert drawn.any(axis=1)[20:40].all()
    assert drawn.any(axis=0)[20:40].all()
    assert not drawn[23:37, 23:37].any()
    for first, last, share in ((25, 25, 1.0), (12, 12, 0.0), (25, 12, 1.0)):  # the strong threshold lies between
        ground = np.full((64, 64, 3), 255, dtype=np.uint8)
        ground[32:] -= np.linspace(first, last, 64).round().astype(np.uint8)[:, None]
        drawn = draw.drawing(ground) == 0
        assert drawn.any(axis=0).mean() == share, "columns in which the horizon is drawn"


def test_a_transparent_ground_is_white(scripts: tuple[ModuleType, ModuleType]) -> None:
    _, draw = scripts
    picture = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    picture.putpixel((1, 0), (0, 100, 200, 51))  # a fifth of it
    assert draw.on_white(picture).tolist() == [[[255, 255, 255], [204, 224, 244]]]
    tiles = [np.full((64, 64), value, dtype=np.uint8) for value in range(41)]
    sheet = np.asarray(draw.sheet(tiles))
    assert sheet.shape == (128, 2560)
    assert (sheet[64:, :64] == 40).all(), "the second row begins with the 41st tile"
    assert (sheet[64:, 64:] == 255).all()
