"""Sources of `pack`: each kind gives the same pictures and labels, refuses what is wrong, and unpickles nothing."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.data.errors import DataError, ShardError
from framework.data.pack import pack
from framework.data.readers import SourceError, open_source


def picture(value: int, *, side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side), value).save(file, "PNG")
    return file.getvalue()


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def values(source) -> list[int]:
    """The grey value of each picture: enough to tell them apart."""
    contents = [source.read(index) for index in range(len(source))]
    arrays = [np.asarray(Image.open(io.BytesIO(c))) if isinstance(c, bytes) else c for c in contents]
    return [int(array.flat[0]) for array in arrays]


CLASSES = {
    "dog/b.png": picture(1),
    "dog/a.png": picture(2),
    "cat/x/z.png": picture(3),
    "cat/.hidden.png": b"",
    "n.txt": b"",
}


@pytest.mark.parametrize("prefix", ["", "data/", "data/set/"])
def test_sub_folders_are_classes_in_a_folder_and_in_a_zip(tmp_path, prefix):
    files = {prefix + name: content for name, content in CLASSES.items()}
    folder, archive = write_tree(tmp_path / "animals", files), write_zip(tmp_path / "animals.zip", files)
    for location, kind in ((folder, "folder"), (archive, "zip")):
        source = open_source(location)
        assert (source.kind, source.name, source.class_names) == (kind, "animals", ("cat", "dog"))
        assert list(source.names) == [prefix + name for name in ("cat/x/z.png", "dog/a.png", "dog/b.png")]
        assert source.labels.tolist() == [0, 1, 1]
        assert source.labels.dtype == np.int64
        assert values(source) == [3, 2, 1]
        assert source.ignored == {".txt": 1}
        assert open_source(location, labels=False).labels is None
        source.close()


@pytest.mark.parametrize("files", [{"b.png": picture(1), "a.jpg": b"x"}, {"one/b.png": picture(1), "one/a.jpg": b"x"}])
def test_a_flat_folder_has_no_labels(tmp_path, files):
    source = open_source(write_tree(tmp_path / "flat", files))
    assert (source.labels, source.class_names, len(source)) == (None, (), 2)


def test_links_are_followed_but_never_in_circles(tmp_path):
    root = write_tree(tmp_path / "root", {"cat/a.png": picture(1)})
    write_tree(tmp_path / "elsewhere", {"b.png": picture(2)})
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "up").symlink_to(root)
    assert list(open_source(root).names) == ["cat/a.png", "dog/b.png"]
    (root / "dog2").mkdir()
    (root / "dog2" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(SourceError, match=r"gone\.png: cannot be read"):
        open_source(root)


@pytest.mark.parametrize("pack_as", [write_tree, lambda path, files: write_zip(path.with_suffix(".zip"), files)])
def test_labels_from_dataset_json(tmp_path, pack_as):
    files = {"00000/i0.png": picture(1), "00000/i1.png": picture(2), "00001/i2.png": picture(3)}
    labels = {"labels": [["00001/i2.png", 7], ["00000/i0.png", 2], ["00000/i1.png", 0]]}
    source = open_source(pack_as(tmp_path / "a", files | {"dataset.json": json.dumps(labels).encode()}))
    assert source.labels.tolist() == [2, 0, 7]
    source.close()
    none = open_source(pack_as(tmp_path / "b", files | {"dataset.json": b'{"labels": null}'}))
    assert none.labels is None
    none.close()
    for name, text, why in (
        ("c", {"labels": labels["labels"][:2]}, r"no label for 00000/i1\.png"),
        ("d", {"labels": [*labels["labels"], ["x.png", 1]]}, r"x\.png and 0 other pictures have a label, but do not"),
        ("e", {"labels": [["00001/i2.png", 0.5], ["00000/i0.png", 2], ["00000/i1.png", 0]]}, "whole numbers"),
        ("f", {"labels": [1, 2]}, "expected"),
        ("g", [1], "expected"),
    ):
        with pytest.raises(SourceError, match=why):
            open_source(pack_as(tmp_path / name, files | {"dataset.json": json.dumps(text).encode()}))


def test_layouts_that_would_give_wrong_labels_are_refused(tmp_path):
    beside = write_tree(tmp_path / "beside", CLASSES | {"stray.png": picture(9)})
    with pytest.raises(SourceError, match=r"stray\.png and 0 other pictures lie beside class folders"):
        open_source(beside)
    assert len(open_source(beside, labels=False)) == 4
    empty = write_tree(tmp_path / "empty", CLASSES)
    (empty / "bird").mkdir()
    with pytest.raises(SourceError, match="bird: holds no pictures"):
        open_source(empty)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SourceError, match="holds no pictures"):
        open_source(tmp_path / "nothing")


def test_a_damaged_zip_member_is_a_bad_picture(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": picture(1), "b.png": picture(2)})
    data = bytearray(path.read_bytes())
    data[data.index(b"a.png") + 20] ^= 255
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=r"1 of 2 pictures cannot be used.*\n  a\.png: cannot be read from the zip .*Bad CRC"
    ):
        pack(path, tmp_path / "out", progress=False)
    path.write_bytes(data[:-30])
    with pytest.raises(SourceError, match="cannot be opened as a zip"):
        open_source(path)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
LABELS = np.array([3, 0, 1, 2, 1], np.uint8)


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_from_a_folder_or_by_name(tmp_path, zipped):
    for stem, images in (("train", IMAGES), ("t10k", IMAGES[:2])):
        for kind, array in (("images-idx3", images), ("labels-idx1", LABELS[: len(images)])):
            name = f"{stem}-{kind}-ubyte" + (".gz" if zipped else "")
            (tmp_path / name).write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    source = open_source(tmp_path)
    assert (source.kind, source.channels, source.labels.tolist()) == ("idx", 1, LABELS.tolist())
    assert all(np.array_equal(source.read(index), IMAGES[index]) for index in range(5))
    assert len(open_source(tmp_path, split="test")) == 2
    file = next(tmp_path.glob("train-images*"))
    assert open_source(file).digest == source.digest
    with pytest.raises(SourceError, match="no images file for split 'dev'"):
        open_source(tmp_path, split="dev")
    next(tmp_path.glob("train-labels*")).unlink()
    with pytest.raises(SourceError, match="no labels file train-labels-idx1-ubyte"):
        open_source(file)
    assert open_source(file, labels=False).labels is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (idx(IMAGES)[:-3], "damaged: 77 values, its head says 5 x 4 x 4"),
        (idx(IMAGES) + b"x", "damaged: more values"),
        (gzip.compress(idx(IMAGES), mtime=0)[:-12], "cannot be read"),
        (b"\0\0\x0d\x03" + bytes(40), "is not an idx file of uint8 values"),
        (b"", "is not an idx file"),
        (idx(IMAGES[0]), "holds 2 dimensions"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, content, why):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(SourceError, match=why):
        open_source(tmp_path, labels=False)


def test_npz_of_grey_and_colour(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    for name, images, channels in (("grey", IMAGES, 1), ("last", IMAGES[..., None], 1), ("colour", colour, 3)):
        np.savez_compressed(tmp_path / f"{name}.npz", images=images, labels=LABELS)
        source = open_source(tmp_path / f"{name}.npz")
        assert (source.channels, source.labels.tolist()) == (channels, LABELS.tolist())
        assert np.array_equal(source.read(3), images[3].squeeze())
    np.savez(tmp_path / "alone.npz", images=IMAGES)
    assert open_source(tmp_path / "alone.npz").labels is None


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"pictures": IMAGES}, "needs an array `images`.*found none"),
        ({"images": IMAGES.astype(np.float32)}, "found float32"),
        ({"images": np.zeros((2, 4, 4, 4), np.uint8)}, "4 channels"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "5 pictures, but 3 labels"),
        ({"images": IMAGES, "labels": LABELS.astype(float)}, "whole numbers"),
        ({"images": IMAGES, "labels": LABELS.astype(int) - 1}, "label -1 of picture 1 is negative"),
    ],
)
def test_npz_with_other_arrays_is_refused(tmp_path, arrays, why):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SourceError, match=why):
        open_source(tmp_path / "a.npz")


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(tmp_path):
    payload = Payload(tmp_path / "executed")
    np.savez(tmp_path / "a.npz", images=np.array([payload], dtype=object))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(payload))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(SourceError, match=r"\.npz: cannot be read as an npz"):
            open_source(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_another_webdataset_as_folder_brace_list_and_glob(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(9) % 3)
    names = ("ant", "bee", "cat")
    options = {"shard_samples": 4, "progress": False}
    first = pack(tmp_path / "a.npz", tmp_path / "one", encoding="webp", class_names=names, **options)
    for location in ("one", "one/train-{000000..000002}.tar", "one/*.tar"):
        source = open_source(tmp_path / location)
        assert (source.kind, source.channels, source.class_names, len(source)) == ("webdataset", 1, names, 9)
    again = pack(tmp_path / "one", tmp_path / "two", encoding="keep", seed=None, **options)
    assert again.channels == 1, "although WebP stores grey as RGB"
    assert again.shards == first.shards, "kept bytes in the kept order give the same shards"
    with pytest.raises(SourceError, match=r"train-000003\.tar: no such shard"):
        open_source(str(tmp_path / "one" / "train-{000000..000003}.tar"))
    with pytest.raises(SourceError, match="no such shard"):
        open_source(tmp_path / "one" / "x*.tar")


def test_damaged_shards_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    pack(tmp_path / "a.npz", tmp_path / "one", progress=False)
    shard = tmp_path / "one" / "train-000000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:3000])
    with pytest.raises(ShardError, match=r"train-000000\.tar"):
        open_source(shard)
    shard.write_bytes(whole.replace(b"000000002.cls", b"000000002.txt"))
    with pytest.raises(ShardError):  # the checksum of that header is wrong now
        open_source(shard)


def test_several_resolutions_are_not_one_source(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    pack(tmp_path / "a.npz", tmp_path / "one", resolution=(2, 4), progress=False)
    with pytest.raises(SourceError, match=r"several resolutions; pack from one of \['r002', 'r004'\]"):
        open_source(tmp_path / "one")


def test_unknown_sources_say_what_is_possible(tmp_path):
    with pytest.raises(SourceError, match="no such file or folder"):
        open_source(tmp_path / "gone")
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(SourceError, match="cannot pack this; give a folder"):
        open_source(tmp_path / "a.rar")
