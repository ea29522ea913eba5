from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
