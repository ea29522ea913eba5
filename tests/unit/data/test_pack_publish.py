"""`pack` shows a whole data set or none: bad pictures, killed runs, data sets that stand there already."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from framework.data.errors import DataError
from framework.data.manifest import load_manifest
from framework.data.pack import BadImagesError
from framework.data.packing.staging import Staging
from tests.helpers.pictures import hashes, make_folder, make_npz, pack_quietly, read_samples


@pytest.fixture
def with_bad_pictures(tmp_path) -> Path:
    source = make_folder(tmp_path / "source")
    whole = (source / "ant" / "001.png").read_bytes()
    (source / "ant" / "001.png").write_bytes(whole[: len(whole) // 2])
    (source / "cat" / "003.png").write_text("this is no picture")
    return source


def test_bad_pictures_are_all_listed_and_nothing_is_published(tmp_path, with_bad_pictures):
    with pytest.raises(BadImagesError) as caught:
        pack_quietly(with_bad_pictures, tmp_path / "out", resolution=16, shard_samples=4)
    assert sorted(name for name, _ in caught.value.bad) == ["ant/001.png", "cat/003.png"]
    text = str(caught.value)
    assert "2 of 24 pictures" in text
    assert "ant/001.png: cannot be decoded (image file is truncated" in text
    assert "cat/003.png: cannot be decoded (cannot identify image file" in text
    assert "--skip-bad" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_pillows_warnings_without_a_file_name_are_not_shown(tmp_path):
    source = make_folder(tmp_path / "source", per_class=1)
    stump = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stump, "TIFF")
    (source / "ant" / "001.tif").write_bytes(stump.getvalue()[:20])
    with pytest.raises(BadImagesError, match=r"ant/001\.tif"):  # and not the warning, which is an error in these tests
        pack_quietly(source, tmp_path / "out", resolution=16)


def test_skip_bad_counts_what_it_leaves_out(tmp_path, with_bad_pictures):
    manifest = pack_quietly(with_bad_pictures, tmp_path / "out", resolution=16, skip_bad=True)
    assert (manifest.count, manifest.label_counts, manifest.source["skipped"]) == (22, (7, 8, 7), 2)
    assert [key for key, _, _ in read_samples(tmp_path / "out")] == [f"{number:09d}" for number in range(22)]


def test_a_class_that_loses_all_its_pictures_is_an_error(tmp_path):
    source = make_folder(tmp_path / "source", per_class=2)
    for path in (source / "bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable picture is left of class 'bee' \(2 pictures"):
        pack_quietly(source, tmp_path / "out", resolution=16, skip_bad=True)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


KILLED = """
import os, signal, sys
from framework.data.packing import staging
from framework.data.pack import pack
record, finished = staging.Staging.record, []
def record_then_die(self, **line):
    if len(finished) == 2:
        os.kill(os.getpid(), signal.SIGKILL)   # the third shard is on disk, but not stated
    record(self, **line)
    finished.append(line)
staging.Staging.record = record_then_die
pack(sys.argv[1], sys.argv[2], resolution=(8, 16), shard_samples=4, skip_bad=True, progress=False)
"""


def test_a_killed_run_shows_nothing_and_the_same_command_finishes_it(tmp_path, with_bad_pictures, monkeypatch):
    options = {"resolution": (8, 16), "shard_samples": 4, "skip_bad": True}
    done = subprocess.run([sys.executable, "-c", KILLED, with_bad_pictures, tmp_path / "out"], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    journal = tmp_path / ".out.part" / "progress.jsonl"
    journal.write_text(journal.read_text() + '{"files": {"r0', "utf-8")  # and a line cut by the kill
    first = (tmp_path / ".out.part" / "r016" / "train-000000.tar").stat().st_ino

    pack_quietly(with_bad_pictures, tmp_path / "out", **options)
    assert (tmp_path / "out" / "r016" / "train-000000.tar").stat().st_ino == first, "the first shard was not redone"
    assert not (tmp_path / ".out.part").exists()
    pack_quietly(with_bad_pictures, tmp_path / "undisturbed", **options)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "undisturbed")


def test_progress_of_other_pictures_is_not_continued(tmp_path, with_bad_pictures):
    subprocess.run([sys.executable, "-c", KILLED, with_bad_pictures, tmp_path / "out"], timeout=120, check=False)
    picture = with_bad_pictures / "ant" / "000.jpg"
    os.utime(picture, ns=(picture.stat().st_atime_ns, picture.stat().st_mtime_ns + 10**12))
    first = (tmp_path / ".out.part" / "r016" / "train-000000.tar").stat().st_ctime_ns
    pack_quietly(with_bad_pictures, tmp_path / "out", resolution=(8, 16), shard_samples=4, skip_bad=True)
    assert (tmp_path / "out" / "r016" / "train-000000.tar").stat().st_ctime_ns != first
    assert len(read_samples(tmp_path / "out" / "r016")) == 22


def test_another_command_clears_what_a_killed_one_left(tmp_path, with_bad_pictures):
    subprocess.run([sys.executable, "-c", KILLED, with_bad_pictures, tmp_path / "out"], timeout=120, check=False)
    pack_quietly(with_bad_pictures, tmp_path / "out", resolution=16, skip_bad=True)
    names = ["manifest.json", "train-000000.idx", "train-000000.tar"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_the_same_command_again_changes_nothing(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    first = pack_quietly(tmp_path / "pixels.npz", tmp_path / "out")
    (tmp_path / "out" / "README.md").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert pack_quietly(tmp_path / "pixels.npz", tmp_path / "out") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_another_data_set_is_replaced_only_when_told(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", shard_samples=10)
    before = hashes(tmp_path / "out")
    with pytest.raises(DataError, match=r"already holds data set 'pixels' \(40 images, 8 px\).*--overwrite"):
        pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", seed=1)
    assert hashes(tmp_path / "out") == before
    pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", seed=1, overwrite=True)
    assert load_manifest(tmp_path / "out").seed == 1
    assert len(list((tmp_path / "out").glob("*.tar"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pixels.npz"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="exists, but is no data set"):
        pack_quietly(tmp_path / "pixels.npz", tmp_path / "home", overwrite=True)
    pack_quietly(tmp_path / "pixels.npz", tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes.txt would be lost"):
        pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", seed=1, overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_replacement_killed_between_its_renames_is_undone(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    first = pack_quietly(tmp_path / "pixels.npz", tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(DataError, match="already holds data set"):
        pack_quietly(tmp_path / "pixels.npz", tmp_path / "out", seed=1)
    assert load_manifest(tmp_path / "out") == first
    assert not (tmp_path / ".out.old").exists()


def test_two_runs_into_one_folder_exclude_each_other(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    with Staging(tmp_path / "out", request="another run"), pytest.raises(DataError, match="another process is packing"):
        pack_quietly(tmp_path / "pixels.npz", tmp_path / "out")
    assert pack_quietly(tmp_path / "pixels.npz", tmp_path / "out").count == 40


def test_a_source_is_not_its_own_destination(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    pack_quietly(tmp_path / "pixels.npz", tmp_path / "out")
    with pytest.raises(DataError, match="is the source itself"):
        pack_quietly(tmp_path / "out", tmp_path / "out", overwrite=True)


def test_an_unwritable_place_is_named(tmp_path):
    make_npz(tmp_path / "pixels.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*cannot be written"):
        pack_quietly(tmp_path / "pixels.npz", tmp_path / "file" / "out")
