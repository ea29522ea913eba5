"""A picture gives the same pixels by every way in: pack, training from shards, evaluation of files and shards."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.data.inspection import find_faults
from framework.data.pack import pack
from framework.data.stream import open_stream
from framework.evaluation.errors import EvaluationError
from framework.evaluation.images import FolderImages, SampleSet, ShardImages, open_images
from tests.helpers.odd_pictures import HEIC, NO_HEIC, SIDE, Odd, odd_pictures
from tests.unit.data.stream_helpers import write_tar


@pytest.fixture(scope="module")
def odd() -> dict[str, Odd]:
    return odd_pictures()


@pytest.fixture(scope="module")
def places(odd: dict[str, Odd], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pictures, in the order of their names, in a folder, in a zip, in another's shards, and packed from these."""
    root = tmp_path_factory.mktemp("odd")
    (root / "files").mkdir()
    members = []
    with zipfile.ZipFile(root / "files.zip", "w") as archive:
        for number, picture in enumerate(odd.values()):
            name = f"{number:03d}.{picture.suffix}"
            (root / "files" / name).write_bytes(picture.content)
            archive.writestr(name, picture.content)
            members.append((name, picture.content))
    (root / "theirs").mkdir()
    write_tar(root / "theirs" / "x-000000.tar", members)
    for source in ("files", "files.zip", "theirs"):
        pack(root / source, root / f"packed-{source}", channels=3, seed=None, progress=False)
    return {path.name: path for path in root.iterdir()}


def streamed(location: Path, count: int) -> list[np.ndarray]:
    """What training sees, in the order of the keys."""
    stream = open_stream(location, resolution=SIDE, channels=3, window=0, workers=1, cache_folder=location / ".cache")
    with stream.batches(0, batch_size=count, stop=count) as batches:
        (batch,) = batches
    rows = zip(batch.keys, batch.images.numpy(), strict=True)
    return [image.transpose(1, 2, 0) for _, image in sorted(rows, key=lambda row: row[0])]


def judged(images: SampleSet) -> list[np.ndarray]:
    """What an evaluation sees, in its order."""
    parts = images.parts(count=images.count, rank=0, world=1)
    return [image for part in parts for image in part.images.permute(0, 2, 3, 1).numpy()]


def any_order(images: list[np.ndarray]) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


def test_files_in_a_folder_and_in_a_zip_have_the_pixels_they_must_have(
    odd: dict[str, Odd], places: dict[str, Path]
) -> None:
    for place in ("files", "files.zip"):
        for (name, picture), seen in zip(odd.items(), judged(open_images(places[place])), strict=True):
            difference = np.abs(seen.astype(int) - picture.pixels)
            assert difference.max() <= picture.tolerance, name


@pytest.mark.parametrize("place", ["theirs", "packed-files", "packed-files.zip", "packed-theirs"])
def test_training_and_evaluation_see_shards_as_the_files(
    place: str, odd: dict[str, Odd], places: dict[str, Path]
) -> None:
    files = judged(FolderImages(places["files"]))
    for name, trained, seen in zip(odd, streamed(places[place], len(odd)), files, strict=True):
        assert np.array_equal(trained, seen), name
    assert any_order(judged(ShardImages(str(places[place])))) == any_order(files)


def test_shards_of_odd_pictures_have_no_fault(places: dict[str, Path]) -> None:
    for place in ("theirs", "packed-theirs"):
        assert find_faults(str(places[place]), cache_folder=places["files"].parent / "cache").faults == []


@pytest.mark.skipif(not HEIC, reason=NO_HEIC)
def test_heic_is_among_them(odd: dict[str, Odd]) -> None:
    assert "heic" in odd


def test_further_frames_are_mentioned_once(places: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    files = FolderImages(places["files"])
    assert len(judged(files)) == len(judged(files))
    assert caplog.text.count("the first is used") == 1
    caplog.clear()
    streamed(places["theirs"], len(odd_pictures()))
    assert caplog.text.count("only the first frame or page of a picture is used") == 1
    caplog.clear()
    streamed(places["packed-files"], len(odd_pictures()))
    assert caplog.text == ""


def test_sub_folders_are_read_and_hidden_files_are_not(tmp_path: Path) -> None:
    """`framework evaluate --images samples/ --reference photos/`, where `photos/` has a folder for each class."""
    for number, name in enumerate(("cat/b.png", "cat/x/a.PNG", "dog/c.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + 8 * number, 8), (number, 0, 0)).save(tmp_path / name)
    (tmp_path / "cat" / "._b.png").write_bytes(b"attributes")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "t.png").write_bytes(b"no picture")
    (tmp_path / "cat" / "notes.txt").write_text("x")
    images = open_images(tmp_path)
    assert [image.shape for image in judged(images)] == [(8, 8, 3), (8, 16, 3), (8, 24, 3)]
    assert [image[0, 0, 0] for image in judged(images)] == [0, 1, 2]
    assert images.describe()["resolution"] == "several"
    assert [part.start for part in images.parts(count=3, rank=0, world=1)] == [0, 1, 2]
    assert isinstance(images, FolderImages)
    assert images.left_out == "1 .txt"


@pytest.mark.parametrize("name", ["bomb.png", "bomb.jpg"])
def test_a_bomb_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    Image.new("L", (300, 300)).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(EvaluationError, match=rf"{name}: cannot be read .*decompression bomb"):
        judged(FolderImages(tmp_path))


def test_lpips_of_several_sizes_is_missing(tmp_path: Path) -> None:
    from framework.evaluation.errors import MissingError
    from framework.evaluation.metrics.perceptual import diversity
    from tests.helpers.judged import ALONE

    for side in (8, 16):
        Image.new("RGB", (side, side)).save(tmp_path / f"{side}.png")
    with pytest.raises(MissingError, match="bring them to one first"):
        diversity(FolderImages(tmp_path), None, count=2, session=ALONE)
