import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from framework.media import PictureGrid
from framework.media.grids import class_columns, image_grid, save_png
from framework.utils.errors import FrameworkError


def flat(values: list[int], *, channels: int = 1, height: int = 4, width: int = 6) -> np.ndarray:
    """Images `(N, C, H, W)` of one value each."""
    column = np.array(values, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(column, (len(values), channels, height, width)).copy()


def test_class_columns_shows_one_class_per_column() -> None:
    labels = class_columns(3, rows=2)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(FrameworkError):
        class_columns(0, rows=1)


def test_images_stand_row_by_row_with_padding_between() -> None:
    grid = image_grid(flat([10, 20, 30, 40, 50]), columns=3, padding=2)
    assert grid.shape == (2 + 2 * (4 + 2), 2 + 3 * (6 + 2), 1)
    assert grid.dtype == np.uint8
    cells = [[int(grid[2 + 6 * row, 2 + 8 * column, 0]) for column in range(3)] for row in range(2)]
    assert cells == [[10, 20, 30], [40, 50, 255]]
    assert (grid[:2] == 255).all()
    assert (grid[:, 8:10] == 255).all()
    assert (grid[2:6, 2:8] == 10).all()


def test_pixels_and_channels_keep_their_places() -> None:
    image = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(1, 3, 4, 6)
    grid = image_grid(image, columns=1, padding=1)
    assert np.array_equal(grid[1:-1, 1:-1], image[0].transpose(1, 2, 0))


def test_scale_repeats_pixels() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(1, 1, 4, 6)
    grid = image_grid(image, columns=1, padding=0, scale=3)
    assert grid.shape == (12, 18, 1)
    assert np.array_equal(grid[::3, ::3, 0], image[0, 0])
    assert np.array_equal(grid[1::3, 2::3, 0], image[0, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_labels_are_written_above_their_columns(channels: int) -> None:
    images = flat([0] * 4, channels=channels, height=32, width=32)
    plain = image_grid(images, columns=4)
    grid = image_grid(images, columns=4, labels=["bag", "", "ankle boot", "W" * 40])
    header = grid[: len(grid) - len(plain)]
    assert np.array_equal(grid[len(header) :], plain)
    ink = [(header[:, 2 + 34 * column : 34 + 34 * column] < 128).sum() for column in range(4)]
    assert ink[1] == 0
    assert min(ink[0], ink[2], ink[3]) > 10
    # A label too long for its column is cut, and never runs into the next one or out of the picture.
    assert (header[:, 34:36] == 255).all()


def test_wrong_arguments_are_named() -> None:
    images = flat([1, 2])
    for wrong in (images[0], images.astype(np.float32), images[:0], np.zeros((1, 2, 4, 4), np.uint8)):
        with pytest.raises(FrameworkError, match="uint8 images"):
            image_grid(wrong, columns=1)
    with pytest.raises(FrameworkError, match="columns"):
        image_grid(images, columns=0)
    with pytest.raises(FrameworkError, match="1 labels for 2 columns"):
        image_grid(images, columns=2, labels=["a"])


RECORDED = {  # sha256 of the pixels that such grids had before they were a class
    "plain": "ebe9a81a766e2fb0e4d70a3aad4706af1ecaf19b352ae91290d0c343865a0e85",
    "colour": "3b1488308774e40abb963af202bf63ba0032132eb2eaf825ec8e13983ad29e0b",
    "labels": "323a6acb8b9b0914cd06268304ae071f717fe6a577433459792e35d3d0efaf8e",
}
CLASSES = ["T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
SAME_LETTERS = features.version("freetype2") == "2.14.3"


@pytest.mark.parametrize(
    "name",
    ["plain", "colour", pytest.param("labels", marks=pytest.mark.skipif(not SAME_LETTERS, reason="another FreeType"))],
)
def test_grids_of_today_keep_every_bit(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    plain = random.integers(0, 256, (50, 1, 32, 32), dtype=np.uint8)
    colour = random.integers(0, 256, (7, 3, 12, 20), dtype=np.uint8)
    labelled = random.integers(0, 256, (20, 1, 32, 32), dtype=np.uint8)
    grid = {
        "plain": PictureGrid(plain, columns=10),
        "colour": PictureGrid(colour, columns=3, scale=2),
        "labels": PictureGrid(labelled, columns=10, scale=2, column_names=CLASSES),
    }[name]
    assert hashlib.sha256(grid.pixels().tobytes()).hexdigest() == RECORDED[name]
    save_png(tmp_path / "before.png", grid.pixels())
    grid.save(tmp_path / "after.png")
    PictureGrid.of_pixels(grid.pixels()).save(tmp_path / "given.png")
    before = (tmp_path / "before.png").read_bytes()
    assert before == (tmp_path / "after.png").read_bytes() == (tmp_path / "given.png").read_bytes()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_one_picture_stands_alone(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(PictureGrid.of_pixels(pixels).pixels().squeeze(), pixels.squeeze())


def test_named_rows_of_rectangles() -> None:
    inputs, outputs, targets = (
        flat([value] * 4, channels=c, height=24, width=40) for value, c in ((0, 1), (90, 3), (180, 3))
    )
    grid = PictureGrid.of_rows({"input": inputs, "output": outputs, "a target of long name": targets}, title="pairs")
    drawn, plain = grid.pixels(), image_grid(np.concatenate([inputs.repeat(3, 1), outputs, targets]), columns=4)
    left = drawn.shape[1] - plain.shape[1]
    assert np.array_equal(drawn[:, left:], plain), "names stand before the pictures and change nothing else"
    ink = [(drawn[2 + 26 * row : 26 + 26 * row, :left] < 128).sum() for row in range(3)]
    assert 20 < ink[0] < ink[1] < ink[2], "each name stands before its row, and has more letters than the one above"
    assert (drawn[26:28, :left] == 255).all(), "no name runs into the next row"
    assert (drawn[:, left - 4 : left] == 255).all()
    assert grid.description == ("pairs: 12 pictures of 40 x 24 pixels, in rows input, output, a target of long name")


def test_named_columns_go_side_by_side_and_both_names_fit() -> None:
    grid = PictureGrid.of_columns({"input": flat([1, 2]), "output": flat([3, 4])}, scale=6)
    assert grid.pictures[:, 0, 0, 0].tolist() == [1, 3, 2, 4]
    assert grid.column_names == ("input", "output")
    both = PictureGrid(grid.pictures, columns=2, column_names=["a", "b"], row_names=["c", "d"], scale=6).pixels()
    only = PictureGrid(grid.pictures, columns=2, column_names=["a", "b"], scale=6).pixels()
    assert np.array_equal(both[:, -only.shape[1] :], only), "columns stay under their names"
    assert (both[: -2 * (4 * 6 + 2), : both.shape[1] - only.shape[1]] == 255).all(), "no row is named in the header"


def test_a_grid_cannot_be_changed_after_it_was_made() -> None:
    pictures = flat([10, 20])
    grid = PictureGrid(pictures, columns=2)
    before = grid.encode()
    pictures[:] = 0
    assert grid.encode() == before
    with pytest.raises(ValueError, match="read-only"):
        grid.pictures[:] = 0


def test_a_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        saved = PictureGrid(flat([1]), columns=1).save(tmp_path / "new" / "a.png")
    finally:
        os.umask(before)
    assert saved.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in saved.parent.iterdir()] == ["a.png"]


def test_names_that_cannot_be_drawn_are_refused() -> None:
    pictures = flat([1, 2])
    with pytest.raises(FrameworkError, match="2 labels for 1 rows"):
        PictureGrid(pictures, columns=2, row_names=["a", "b"])
    with pytest.raises(FrameworkError, match="not the text 'ab'"):
        PictureGrid(pictures, columns=2, column_names="ab")
    for name in ("a\nb", "\ud800", "x" * 201):
        with pytest.raises(FrameworkError, match="a column's name"):
            PictureGrid(pictures, columns=2, column_names=["a", name])
    with pytest.raises(FrameworkError, match="as many pictures of one size"):
        PictureGrid.of_rows({"input": pictures, "output": flat([1])})
    with pytest.raises(FrameworkError, match="'output' must be pictures"):
        PictureGrid.of_columns({"input": pictures, "output": pictures[0]})


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_png_round_trip(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    save_png(tmp_path / "new" / "a.png", pixels)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert np.array_equal(np.asarray(image), pixels.squeeze())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    with pytest.raises(FrameworkError, match="must be uint8"):
        save_png(tmp_path / "b.png", pixels.astype(np.int16))  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*b.png*"))
