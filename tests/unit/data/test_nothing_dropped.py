"""What would be dropped or mixed up without a word is refused by name, or counted and said."""

import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from PIL import Image

from framework.commands.pack import pack as pack_command
from framework.data import pictures
from framework.data.errors import DataError, ShardError
from framework.data.index import index_shard, parse_index
from framework.data.inspection import find_faults, index_foreign, report_on
from framework.data.labels import MAX_CLASSES
from framework.data.manifest import load_manifest
from framework.data.pack import BadImagesError, pack
from framework.data.readers import SourceError, open_source
from framework.data.stream import open_stream
from framework.evaluation.errors import EvaluationError
from framework.evaluation.images import ArrayImages, open_images
from tests.helpers.odd_pictures import as_file, odd_pictures
from tests.unit.data.stream_helpers import encoded, make_set, write_tar

PNG = encoded(1, 32, 3, "png")
HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def read_all(location: Path, **options: Any) -> list[str]:
    stream = open_stream(location, **{"resolution": 32, "workers": 0, "cache_folder": location / ".cache"} | options)
    with stream.batches(0, batch_size=stream.count, stop=stream.count) as batches:
        return [key for batch in batches for key in batch.keys]


def test_two_tar_members_of_one_name_are_refused(tmp_path: Path) -> None:
    for name, second in (("a", "0.png"), ("b", "0.PNG")):
        (tmp_path / name).mkdir()
        path = write_tar(tmp_path / name / "x.tar", [("0.png", PNG), (second, encoded(2, 32, 3, "png"))])
        for way in (index_shard, open_source, lambda path: read_all(path.parent)):
            with pytest.raises(ShardError, match=rf"x\.tar, sample 0: members '0.png' and '{second}' are of one kind"):
                way(path)


def test_what_macos_writes_beside_files_is_no_sample(tmp_path: Path) -> None:
    members = [("._0.png", b"attributes"), ("0.png", PNG), ("__MACOSX/._1.png", b"attributes"), ("1.png", PNG)]
    write_tar(tmp_path / "x.tar", members)
    assert sorted(read_all(tmp_path)) == ["0", "1"]


def test_two_zip_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        warnings.simplefilter("ignore")  # zipfile's own, on writing
        for value in (1, 2):
            archive.writestr("a.png", as_file(Image.new("L", (8, 8), value), "PNG"))
    for way in (open_source, open_images):
        with pytest.raises(DataError if way is open_source else EvaluationError, match=r"holds 2 entries named a\.png"):
            way(tmp_path / "a.zip")
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        warnings.simplefilter("ignore")
        for value in (1, 2):
            with archive.open("images.npy", "w") as file:
                np.save(file, np.full((2, 4, 4), value, np.uint8))
    for way, error in ((open_source, SourceError), (open_images, EvaluationError)):
        with pytest.raises(error, match=r"holds an array twice"):
            way(tmp_path / "a.npz")


def test_a_file_named_twice_with_two_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    labels = tmp_path / "dataset.json"
    labels.write_text(json.dumps({"labels": [["a.png", 0], ["a.png", 1]]}))
    with pytest.raises(SourceError, match=r"dataset\.json: names a\.png twice, with classes 0 and 1"):
        open_source(tmp_path)
    labels.write_text(json.dumps({"labels": [["a.png", 0], ["a.png", 0]]}))
    found = open_source(tmp_path).labels
    assert found is not None
    assert found.tolist() == [0]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "dataset.json").write_text("{}")
    with pytest.raises(SourceError, match=r"dataset\.json and more/dataset\.json both hold labels"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (np.zeros(2, np.int64), "3 images, but 2 labels"),
        (np.array([0, -1, 1]), "label -1 of picture 1 is negative"),
        (np.array([0.0, 0.5, 1.0]), "whole numbers, are float64"),
        (np.zeros((3, 1), np.int64), "whole numbers, are int64"),
        (np.array([0, 2**63, 1], np.uint64), rf"label {2**63} of picture 1 is above the largest accepted one, 999999"),
    ],
)
def test_labels_of_an_npz_are_checked_by_evaluation_as_by_pack(tmp_path: Path, labels: np.ndarray, why: str) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 8, 8, 3), np.uint8), labels=labels)
    with pytest.raises(EvaluationError, match=why):
        ArrayImages(tmp_path / "a.npz")
    with pytest.raises(SourceError, match=why.replace("images", "pictures")):
        open_source(tmp_path / "a.npz")


def test_a_label_that_is_a_word_is_a_fault_and_named_by_training(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("0.cls", b"cat"), ("0.png", PNG), ("1.cls", b"dog"), ("1.png", PNG)])
    faults = find_faults(str(tmp_path), cache_folder=tmp_path / "cache").faults
    assert [fault.partition("x.tar, ")[2][:46] for fault in faults] == [
        "sample 0: .cls is unusable: label is b'cat', m",
        "sample 1: .cls is unusable: label is b'dog', m",
    ]
    assert len(find_faults(str(tmp_path), sample=1, cache_folder=tmp_path / "cache").faults) == 1
    (tmp_path / "b").mkdir()
    write_tar(tmp_path / "b" / "y.tar", [("0.cls", b"0"), ("0.png", PNG), ("1.cls", b"dog"), ("1.png", PNG)])
    (fault,) = find_faults(str(tmp_path / "b"), sample=1, cache_folder=tmp_path / "cache").faults
    assert "y.tar, sample 1: .cls is unusable" in fault, "though only sample 0 was looked at"
    with pytest.raises(DataError, match=r"2 classes are asked for, but shard x\.tar, sample 0: \.cls .* b'cat'"):
        read_all(tmp_path, classes=2)
    assert sorted(read_all(tmp_path)) == ["0", "1"], "without classes nobody needs them"
    with pytest.raises(ShardError, match=r"x\.tar, sample 0: \.cls is unusable: label is b'cat'"):
        pack(tmp_path, tmp_path / "out", progress=False)


INDEX_FAULTS: dict[str, Callable[[list[str]], object]] = {
    "two lines swapped": lambda lines: lines.insert(1, lines.pop(2)),
    "a line twice": lambda lines: lines.__setitem__(2, lines[1]),
    "another sample's label": lambda lines: lines.__setitem__(1, " ".join(lines[2].split()[:4] + lines[1].split()[4:])),
    "an absurd size": lambda lines: lines.__setitem__(3, lines[3].rsplit(" ", 2)[0] + f" {2**40} 000000002.png"),
    "a smaller size": lambda lines: lines.__setitem__(3, lines[3].rsplit(" ", 2)[0] + " 7 000000002.png"),
    "a size of no number": lambda lines: lines.__setitem__(3, lines[3].rsplit(" ", 2)[0] + " x 000000002.png"),
    "an offset in the middle": lambda lines: lines.__setitem__(1, lines[1].replace(" 512 1 ", " 513 1 ")),
}


@pytest.mark.parametrize("fault", INDEX_FAULTS)
def test_an_index_that_does_not_describe_its_shard_is_refused(tmp_path: Path, fault: str) -> None:
    folder = make_set(tmp_path / "a", sizes=(5,))
    assert len(read_all(folder, classes=5)) == 5
    path = folder / "train-000000.idx"
    lines = path.read_text().splitlines()
    INDEX_FAULTS[fault](lines)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ShardError, match=r"train-000000\.tar.*(idx|not the indexed file)"):
        read_all(folder, classes=5)
    assert len(find_faults(str(folder)).faults) == 1


def test_an_index_of_an_older_edition_of_the_shard_is_refused(tmp_path: Path) -> None:
    """Equal names, count and size: only the order and the sizes of the pictures inside differ."""
    data = [encoded(number, 32, 3, "png") for number in range(6)]
    old, new = (
        write_tar(tmp_path / f"{name}.tar", [(f"{n}.png", content) for n, content in enumerate(order)])
        for name, order in (("old", data), ("new", data[::-1]))
    )
    assert old.stat().st_size == new.stat().st_size
    folder = tmp_path / "theirs"
    folder.mkdir()
    new.rename(folder / "x.tar")
    index_foreign(str(folder))
    text = (folder / "x.idx").read_text()
    old.rename(tmp_path / "x.tar")
    index_foreign(str(tmp_path / "x.tar"))
    (folder / "x.idx").write_text((tmp_path / "x.idx").read_text())
    assert text != (folder / "x.idx").read_text()
    with pytest.raises(ShardError, match=r"x\.tar, sample \d: no header of \d\.png"):
        read_all(folder)


def test_an_index_that_hides_a_member_is_found_where_shards_are_hashed(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("0.png", PNG), ("0.webp", encoded(2, 32, 3, "webp")), ("1.png", PNG)])
    index_foreign(str(tmp_path))
    assert len(read_all(tmp_path, verify="sha256")) == 2
    path = tmp_path / "x.idx"
    lines = path.read_text().splitlines()
    lines[1] = " ".join(lines[1].split()[4:])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ShardError, match=r"x\.tar: its index does not describe it; make it anew"):
        read_all(tmp_path, verify="sha256")
    assert len(find_faults(str(tmp_path)).faults) == 1


def test_a_suffix_that_is_not_read_and_frames_left_aside_are_said_at_the_end_of_pack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    odd = odd_pictures()
    for name in ("gif", "rgba"):
        (source / f"{name}.{odd[name].suffix}").write_bytes(odd[name].content)
    for name in ("a.mp4", "b.mp4", "c.txt", "README", ".hidden"):
        (source / name).write_bytes(b"")
    for _ in range(2):  # the second time it stands there already, and is described from its manifest
        tyro.cli(pack_command, args=[str(source), str(tmp_path / "out"), "--no-progress"])
        said = capsys.readouterr().out
        assert "1 with several frames or pages, of which the first was taken" in said
        assert "not read, because no picture's suffix: 2 .mp4, 1 README, 1 .txt" in said
    made = load_manifest(tmp_path / "out").source
    assert (made["animated"], made["not_read"]) == (1, {".mp4": 2, "README": 1, ".txt": 1})
    for name in ("a.mp4", "b.mp4", "c.txt", "README", "gif.gif"):
        (source / name).unlink()
    tyro.cli(pack_command, args=[str(source), str(tmp_path / "plain"), "--no-progress"])
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert not {"animated", "not_read"} & set(load_manifest(tmp_path / "plain").source)


def test_heic_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_heic_is_readable", lambda: False)
    (tmp_path / "a.heic").write_bytes(HEIC_HEAD)
    why = r"a\.heic: cannot be .*is a HEIC picture, whose reader is not installed: pip install 'framework\[heic\]'"
    with pytest.raises(DataError, match=why):
        pack(tmp_path, tmp_path / "out", progress=False)
    with pytest.raises(EvaluationError, match=why):
        list(open_images(tmp_path).parts(count=1, rank=0, world=1))
    write_tar(tmp_path / "x.tar", [("a.heic", HEIC_HEAD), ("b.png", PNG)])
    with pytest.raises(ShardError, match=r"x\.tar, sample a: \.heic is unusable: is a HEIC picture"):
        read_all(tmp_path)


def test_a_picture_that_cannot_be_used_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf" + bytes(50))
    (tmp_path / "b.png").write_bytes(PNG)
    with pytest.raises(BadImagesError, match=r"1 of 2 pictures cannot be used.*\n  a\.avif: cannot be decoded"):
        pack(tmp_path, tmp_path / "out", progress=False)


LABELS = {"the limit": str(MAX_CLASSES), "31 bits": "2147483647", "14 digits": "9" * 14, "64 bits": str(2**63)}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_a_label_above_the_limit_is_refused_by_file_shard_and_key(tmp_path: Path, label: str) -> None:
    shards, files = tmp_path / "shards", tmp_path / "files"
    shards.mkdir()
    files.mkdir()
    write_tar(shards / "x.tar", [("0.cls", b"1"), ("0.png", PNG), ("1.cls", label.encode()), ("1.png", PNG)])
    why = rf"x\.tar, sample 1: \.cls is unusable: label is {label}, the largest accepted one is 999999"
    ways: dict[str, Callable[[], object]] = {
        "index": lambda: index_foreign(str(shards)),
        "inspect": lambda: report_on(str(shards), cache_folder=tmp_path / "cache"),
        "pack": lambda: pack(shards, tmp_path / "out", progress=False),
        "evaluate": lambda: open_images(shards),
        "training": lambda: read_all(shards, classes=2),
    }
    for way in ways.values():
        with pytest.raises(ShardError, match=why):
            way()
    (fault,) = find_faults(str(shards), cache_folder=tmp_path / "cache").faults
    assert "sample 1: .cls is unusable" in fault
    (files / "a.png").write_bytes(PNG)
    (files / "dataset.json").write_text(json.dumps({"labels": [["a.png", int(label)]]}))
    with pytest.raises(SourceError, match=rf"dataset\.json: label {label} of picture a\.png is above the largest"):
        pack(files, tmp_path / "out", progress=False)


def test_the_largest_label_is_accepted_and_its_classes_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("0.cls", b"999999"), ("0.png", PNG), ("1.cls", b" 007\n"), ("1.png", PNG)])
    (report,) = report_on(str(tmp_path), cache_folder=tmp_path / "cache")
    assert (report["classes"], sum(report["label_counts"]), report["label_counts"][7]) == (MAX_CLASSES, 2, 1)
    with pytest.raises(SourceError, match=r"class '0' has 0 pictures"):
        pack(tmp_path, tmp_path / "out", progress=False)
    assert sorted(read_all(tmp_path, classes=MAX_CLASSES)) == ["0", "1"]


def test_a_manifest_of_more_classes_is_refused(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=(2,), classes=0)
    text = (folder / "manifest.json").read_text().replace('"classes": 0', f'"classes": {10**14}')
    (folder / "manifest.json").write_text(text)
    (fault,) = find_faults(str(folder)).faults
    assert f"classes is {10**14}, must be in 0 .. {MAX_CLASSES}" in fault


def test_first_of_each_class_are_the_first_in_the_order_of_the_source(tmp_path: Path) -> None:
    labels = np.array([2, 0, 1, 1, 0, 2, 2, 0, 1])
    images = np.arange(9, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    pack(tmp_path / "a.npz", tmp_path / "out", per_class=2, seed=None, progress=False)
    source = open_source(tmp_path / "out")
    kept = [np.asarray(pictures.read_picture(bytes(source.read(n))).image)[0, 0] for n in range(len(source))]
    assert kept == [0, 1, 2, 3, 4, 5]


def test_a_tar_header_that_lies_about_its_size_neither_hangs_nor_eats_memory(tmp_path: Path) -> None:
    blocks = -(-len(PNG) // 512) * 512
    sizes = {"negative": b"\xff" * 10 + b"\xfe\x00", "8 GiB": b"77777777777\0"}
    for title, size in sizes.items():
        for name, kind in (("a.png", "0"), ("._a.png", "0"), ("a.png", "x")):
            path = write_tar(tmp_path / f"{title} {name} {kind}.tar", [("0.png", PNG), (name, PNG)])
            raw, at = bytearray(path.read_bytes()), 512 + blocks  # the second header
            raw[at + 124 : at + 136], raw[at + 148 : at + 157] = size, b" " * 8 + kind.encode()
            raw[at + 148 : at + 156] = f"{sum(raw[at : at + 512]):06o}\0 ".encode()
            path.write_bytes(raw)
    code = (
        "import resource, sys\n"
        "from framework.data.index import index_shard\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (30, 30))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, -1))\n"
        "for path in sys.argv[1:]:\n"
        "    try: index_shard(path)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    paths = sorted(tmp_path.glob("*.tar"))
    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = done.stdout.splitlines()
    assert [
        line.startswith(f"ShardError shard {path}: damaged tar") for line, path in zip(said, paths, strict=True)
    ] == [True] * 6, done.stdout + done.stderr


def test_index_lines_are_read_with_one_key() -> None:
    lines = parse_index("v1.2 1\ncls 512 1 a/b.cls png 1536 9 a/b.png\n", origin="x")
    assert lines[0].key == "a/b"
    lines.check_order(num_bytes=4096)
    for text in ("cls 512 1 a.cls png 1536 9 b.png", "png 512 9 a.jpg", "cls 512 1 a.cls png 1536 9"):
        with pytest.raises(DataError, match=r"not a line of a v1\.2 index"):
            parse_index(f"v1.2 1\n{text}\n", origin="x")[0]
