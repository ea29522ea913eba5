"""`pack`: the same bytes from the same pictures, and what readers find in them."""

import hashlib
import json
import tarfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from framework.data.errors import DataError
from framework.data.index import index_shard, read_index
from framework.data.manifest import load_manifest, load_resolutions
from framework.data.pack import BadImagesError, pack
from tests.helpers.pictures import hashes, make_folder, make_npz, pack_quietly, read_samples


@pytest.mark.parametrize("encoding", ["png", "webp", "jpg"])
def test_same_pictures_give_the_same_bytes_with_any_number_of_workers(tmp_path, encoding):
    source = make_folder(tmp_path / "source")
    options = {"resolution": 16, "encoding": encoding, "shard_samples": 10, "notice": "MIT"}
    for number, workers in enumerate((1, 1, 5)):
        pack_quietly(source, tmp_path / f"out{number}", workers=workers, **options)
    expected = hashes(tmp_path / "out0")
    names = [f"train-{shard:06d}.{kind}" for shard in range(3) for kind in ("idx", "tar")]
    assert sorted(expected) == ["NOTICE", "manifest.json", *names]
    assert hashes(tmp_path / "out1") == expected
    assert hashes(tmp_path / "out2") == expected


def test_webdataset_reads_every_picture_and_label_back(tmp_path):
    images, labels = make_npz(tmp_path / "pixels.npz")
    manifest = pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", shard_samples=15)
    samples = read_samples(tmp_path / "out")
    assert [key for key, _, _ in samples] == [f"{number:09d}" for number in range(40)]
    expected = Counter((int(label), image.tobytes()) for label, image in zip(labels, images, strict=True))
    assert Counter((label, pixels.tobytes()) for _, label, pixels in samples) == expected
    assert [pixels.tobytes() for _, _, pixels in samples] != [image.tobytes() for image in images], "must be shuffled"
    assert manifest == load_manifest(tmp_path / "out")
    assert [shard.count for shard in manifest.shards] == [15, 15, 10]
    assert (manifest.resolution, manifest.channels, manifest.encoding) == (8, 3, "png")
    assert (manifest.classes, manifest.class_names, manifest.label_counts) == (4, ("0", "1", "2", "3"), (10,) * 4)
    assert manifest.source["images"] == 40


def test_shards_are_plain_ustar_with_a_true_index_and_hash(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    manifest = pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", shard_samples=15)
    for entry in manifest.shards:
        path = tmp_path / "out" / entry.name
        assert (entry.bytes, entry.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        assert list(read_index(path.with_suffix(".idx"))) == index_shard(path)
        assert path.read_bytes()[257:265] == b"ustar\x0000"
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert len(members) == 2 * entry.count
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
        assert [m.name.split(".")[1] for m in members] == ["cls", "png"] * entry.count


def test_seed_chooses_the_order_and_none_keeps_it(tmp_path):
    images, _ = make_npz(tmp_path / "pixels.npz")
    orders = {}
    for name, seed in {"kept": None, "zero": 0, "one": 1}.items():
        pack_quietly(tmp_path / "pixels.npz", tmp_path / name, seed=seed)
        orders[name] = [pixels.tobytes() for _, _, pixels in read_samples(tmp_path / name)]
    assert orders["kept"] == [image.tobytes() for image in images]
    assert orders["zero"] != orders["one"]
    assert sorted(orders["zero"]) == sorted(orders["one"]) == sorted(orders["kept"])
    assert load_manifest(tmp_path / "kept").source["order"] == "source"


def test_shuffled_order_does_not_depend_on_numpy(tmp_path):
    """Pinned: a change here would change every data set packed so far."""
    make_npz(tmp_path / "pixels.npz", count=8, classes=8)
    pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", seed=3)
    assert [label for _, label, _ in read_samples(tmp_path / "out")] == PINNED_ORDER


PINNED_ORDER = [6, 1, 5, 2, 7, 4, 3, 0]


def test_per_class_takes_the_first_of_each_class(tmp_path):
    images, labels = make_npz(tmp_path / "pixels.npz")
    manifest = pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", per_class=3)
    assert manifest.label_counts == (3, 3, 3, 3)
    expected = {images[index].tobytes() for label in range(4) for index in np.flatnonzero(labels == label)[:3]}
    assert {pixels.tobytes() for _, _, pixels in read_samples(tmp_path / "out")} == expected
    with pytest.raises(DataError, match=r"class '0' has 10 pictures, needed: 11"):
        pack_quietly(tmp_path / "pixels.npz", tmp_path / "more", per_class=11)


def test_colour_in_a_grey_set_is_bad_unless_channels_are_stated(tmp_path):
    (tmp_path / "source").mkdir()
    for name, mode in {"0": "L", "1": "L", "2": "RGB"}.items():
        Image.new(mode, (4, 4), 77 if mode == "L" else (250, 3, 9)).save(tmp_path / "source" / f"{name}.png")
    with pytest.raises(BadImagesError, match=r"1 of 3 .*\n  2\.png: has colour, but the first picture is grey"):
        pack_quietly(tmp_path / "source", tmp_path / "out")
    for channels in (1, 3):
        assert pack_quietly(tmp_path / "source", tmp_path / f"out{channels}", channels=channels).channels == channels


def test_without_labels_there_are_no_classes(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    manifest = pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", labels=False)
    assert (manifest.classes, manifest.label_counts) == (0, ())
    assert all(label is None for _, label, _ in read_samples(tmp_path / "out"))


def test_shard_bytes_bounds_every_shard(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    manifest = pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", shard_bytes=12_000)
    assert len(manifest.shards) == 8
    assert all(shard.bytes <= 12_000 for shard in manifest.shards)
    assert all(shard.bytes + 2048 > 12_000 for shard in manifest.shards[:-1]), "shards are filled"


def test_several_resolutions_hold_the_same_pictures(tmp_path):
    source = make_folder(tmp_path / "source")
    manifest = pack_quietly(source, tmp_path / "out", resolution=(16, 4, 8), shard_samples=10, notice="MIT")
    folders = load_resolutions(tmp_path / "out")
    assert folders == {4: "r004", 8: "r008", 16: "r016"}
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["NOTICE", "manifest.json", "r004", "r008", "r016"]
    read = {side: read_samples(tmp_path / "out" / folder) for side, folder in folders.items()}
    manifests = {side: load_manifest(tmp_path / "out" / folder) for side, folder in folders.items()}
    assert manifests[16] == manifest
    assert [manifests[side].resolution for side in (4, 8, 16)] == [4, 8, 16]
    assert [manifests[side].resize_filter for side in (4, 8, 16)] == ["box", "box", "lanczos"]
    assert len({tuple((s.name, s.count) for s in m.shards) for m in manifests.values()}) == 1
    for (key, label, large), (key_8, label_8, small) in zip(read[16], read[8], strict=True):
        assert (key, label) == (key_8, label_8)
        mean = large.reshape(8, 2, 8, 2, 3).mean((1, 3))
        assert np.abs(small - mean).max() <= 0.5, "each smaller pixel is the average of four larger ones"
    single = pack_quietly(source, tmp_path / "single", resolution=16, shard_samples=10, notice="MIT")
    assert single.fingerprint == manifest.fingerprint, "smaller resolutions do not change the largest"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resolution": 0}, "resolution is .*must be positive"),
        ({"encoding": "gif"}, "encoding is 'gif', must be one of"),
        ({"crop": "left"}, "crop is 'left'"),
        ({"channels": 4}, "channels is 4"),
        ({"pad": -1}, "pad is -1, must be positive"),
        ({"shard_bytes": 10}, "shard_bytes is 10"),
        ({"split": "a b"}, "split is 'a b'"),
        ({"seed": -1}, "seed is -1"),
        ({"labels": False, "per_class": 2}, "labels is False, but classes are asked for"),
        ({"class_names": ("a", "b", "c", "a")}, "class_names"),
        ({"class_names": ("a", "b", "c")}, "has label 3, but there are only 3 classes"),
        ({"class_names": ("a", "b", "c", "d", "e")}, "class 'e' has 0 pictures"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path, options, text):
    make_npz(tmp_path / "pixels.npz")
    with pytest.raises(DataError, match=text):
        pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pixels.npz"]


def test_an_unknown_option_is_a_type_error(tmp_path):
    with pytest.raises(TypeError, match="resolutoin"):
        pack(tmp_path, tmp_path / "out", resolutoin=4)


def test_manifest_says_what_was_done(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    pack_quietly(
        tmp_path / "pixels.npz", tmp_path / "out", pad=12, per_class=5, license="MIT", name="noise", split="test"
    )
    text = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (text["name"], text["split"], text["resolution"], text["crop"], text["resize_filter"]) == (
        *("noise", "test", 12),
        *("none", "none"),
    )
    source = text["source"]
    assert (source["kind"], source["name"], source["license"]) == ("npz", "pixels", "MIT")
    assert (source["pad"], source["per_class"], source["order"], source["skipped"]) == (12, 5, "shuffled", 0)
    assert str(tmp_path) not in json.dumps(text), "no path of this machine"
