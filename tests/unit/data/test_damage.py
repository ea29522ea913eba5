"""What is wrong in a data set is an error with shard and key, or is skipped, counted and named; never passed over."""

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.data.errors import DataError, ManifestError, ShardError
from framework.data.index import index_shard, write_index
from framework.data.stream import Batch, Stream, open_stream
from tests.unit.data.stream_helpers import (
    CLASSES,
    destroy_header,
    destroy_picture,
    encoded,
    make_set,
    set_label,
    truncate,
    write_tar,
)

SIZES = (20, 17, 23, 20)
BAD = "train-000002.tar"


def opened(folder: Path, **kwargs: Any) -> Stream:
    return open_stream(
        folder, **{"resolution": 32, "classes": CLASSES, "seed": 3, "window": 50, "worker_kind": "thread"} | kwargs
    )


def epoch(stream: Stream, **kwargs: Any) -> list[Batch]:
    with stream.batches(0, **{"batch_size": 12, "stop": 80} | kwargs) as batches:
        return list(batches)


def replaced(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-11_000] ^= 1
    path.write_bytes(data)


def other_set(path: Path) -> None:
    """A shard of the same size whose members have other names."""
    make_set(path.parent / "other", sizes=(23,), first=37, manifest=False)
    names = [(name.replace("0000000", "1000000"), data) for name, data in _contents(path.parent / "other")]
    path.write_bytes(write_tar(path.parent / "other.tar", names).read_bytes())


def _contents(folder: Path) -> list[tuple[str, bytes]]:
    shard = folder / "train-000000.tar"
    data = shard.read_bytes()
    return [(m.name, data[m.offset : m.offset + m.size]) for s in index_shard(shard) for m in s.members]


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, r"has \d+ bytes, the manifest says \d+: truncated or replaced"),
    "missing": (Path.unlink, r"cannot be opened \(No such file"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "truncated or replaced"),
    "header": (destroy_header, r"sample 0000000\d\d: no header of 0000000\d\d\.png at byte \d+: damaged"),
    "picture": (destroy_picture, r"sample 0000000\d\d: \.png is unusable: "),
    "label": (lambda path: set_label(path, b"x"), r"sample 0000000\d\d: \.cls is unusable: label is b'x'"),
    "range": (lambda path: set_label(path, b"7"), r"\.cls is unusable: label is 7, must be below .* 5"),
    "other": (other_set, r"no header of 0000000\d\d\.cls .* not the indexed file"),
    "index": (lambda path: path.with_suffix(".idx").unlink(), "no usable index: .*cannot be read"),
    "short index": (
        lambda path: write_index(path.with_suffix(".idx"), index_shard(path)[:-1]),
        "its index lists 22 samples, the manifest 23",
    ),
    "garbled index": (lambda path: path.with_suffix(".idx").write_text("v1.2 1\nx\n"), "no usable index|lists 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_an_error_that_names_it(tmp_path: Path, fault: str) -> None:
    damage, text = FAULTS[fault]
    folder = make_set(tmp_path / "a", sizes=SIZES)
    damage(folder / BAD)
    with pytest.raises(ShardError, match=f"{BAD}.*{text}") as caught:
        epoch(opened(folder))
    assert caught.value.shard.endswith(BAD)


@pytest.mark.parametrize("fault", ["picture", "label", "header", "missing", "truncated"])
def test_skipping_is_counted_named_and_the_same_for_all_ranks(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage, _ = FAULTS[fault]
    folder = make_set(tmp_path / "a", sizes=SIZES)
    damage(folder / BAD)
    stream = opened(folder, on_bad_sample="skip")
    caplog.set_level(logging.WARNING)
    whole = epoch(stream)
    skipped = [text for batch in whole for text in batch.skipped]
    assert len(set(skipped)) == caplog.text.count("skipped: shard") >= 1
    assert all(BAD in line for line in skipped)
    assert sum(len(batch.keys) for batch in whole) == 80, "never a shorter epoch"
    lost = 1 if fault in ("picture", "label", "header") else 23
    assert len({key for batch in whole for key in batch.keys}) == 80 - lost
    ranks = [epoch(stream, rank=rank, world=3) for rank in range(3)]
    together = sorted(
        pair for rank in ranks for batch in rank for pair in zip(batch.positions, batch.keys, strict=True)
    )
    assert together == [pair for batch in whole for pair in zip(batch.positions, batch.keys, strict=True)]
    assert sorted(line for rank in ranks for batch in rank for line in batch.skipped) == sorted(skipped)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_skipping_has_a_limit(tmp_path: Path, kind: str) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES)
    (folder / BAD).unlink()
    with pytest.raises(DataError, match=rf"samples skipped in one epoch, the limit is 10; .* the last: shard .*{BAD}"):
        epoch(opened(folder, on_bad_sample="skip", max_skipped=10, worker_kind=kind))


def test_the_limit_counts_all_batches(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES)
    for shard in range(4):
        destroy_picture(folder / f"train-{shard:06d}.tar")
    assert sum(len(batch.skipped) for batch in epoch(opened(folder, on_bad_sample="skip", max_skipped=4))) == 4
    with pytest.raises(DataError, match="4 samples skipped in one epoch, the limit is 3"):
        epoch(opened(folder, on_bad_sample="skip", max_skipped=3))


def test_the_same_damage_in_every_epoch_does_not_add_up(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES)
    destroy_picture(folder / BAD)
    stream = opened(folder, on_bad_sample="skip", max_skipped=1)
    with stream.batches(0, batch_size=8, stop=5 * stream.count) as batches:
        assert sum(len(batch.skipped) for batch in batches) == 5


def test_a_set_without_a_usable_sample_ends_in_an_error(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=(5, 5))
    for path in folder.glob("*.tar"):
        path.unlink()
    with pytest.raises(DataError, match="10 samples skipped"):
        epoch(opened(folder, on_bad_sample="skip", workers=1))


def test_a_change_that_keeps_the_size_is_found_by_the_hash(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES)
    replaced(folder / BAD)
    with pytest.raises(ShardError, match=f"{BAD}: the SHA-256 differs from the manifest's"):
        epoch(opened(folder, verify="sha256"))
    make_set(tmp_path / "b", sizes=SIZES)
    assert len(epoch(opened(tmp_path / "b", verify="sha256"))) == 7


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ([("5.cls", b"1"), ("5.txt", b"no picture")], r"has no picture"),
        ([("5.png", encoded(5, 32, 3, "png"))], r"has no label \(\.cls\)"),
        ([("5.cls", b"1"), ("5.png", encoded(5, 16, 3, "png"))], r"picture is 16x16 pixels, need 32x32"),
    ],
)
def test_incomplete_samples(tmp_path: Path, members: list[tuple[str, bytes]], text: str) -> None:
    whole = [(f"{n}.{ext}", data) for n in range(5) for ext, data in (("cls", b"1"), ("png", encoded(n, 32, 3, "png")))]
    write_tar(tmp_path / "a.tar", whole + members)
    with pytest.raises(ShardError, match=rf"a\.tar, sample 5: .*{text}"):
        epoch(opened(tmp_path, cache_folder=tmp_path / "cache"))


@pytest.mark.parametrize("extension", ["pyd", "pkl", "pickle", "pth", "npy"])
def test_members_that_run_code_are_refused_on_opening_and_on_reading(tmp_path: Path, extension: str) -> None:
    payload = b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR."
    write_tar(tmp_path / "a.tar", [("0.cls", b"1"), ("0.png", encoded(0, 32, 3, "png")), (f"0.{extension}", payload)])
    with pytest.raises(ShardError, match=rf"a\.tar, sample 0: member \.{extension} is refused"):
        opened(tmp_path, cache_folder=tmp_path / "cache")
    folder = make_set(tmp_path / "set", sizes=(5,))
    index = folder / "train-000000.idx"
    end = (folder / "train-000000.tar").stat().st_size  # nothing but the last member can be made up
    index.write_text(
        index.read_text().replace("000000004.png", f"000000004.png {extension} {end - 512} 1 000000004.{extension}")
    )
    with pytest.raises(ShardError, match=rf"sample 000000004: member \.{extension} is refused"):
        epoch(opened(folder), stop=5)
    assert not (tmp_path / "owned").exists()


def test_a_truncated_foreign_shard_is_refused_on_opening(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES, manifest=False)
    truncate(folder / BAD)
    with pytest.raises(ShardError, match=f"{BAD}: damaged tar"):
        opened(folder, cache_folder=tmp_path / "cache")
    destroy_header(make_set(tmp_path / "b", sizes=SIZES, manifest=False) / BAD)
    with pytest.raises(ShardError, match=f"{BAD}: damaged tar: no end mark"):
        opened(tmp_path / "b", cache_folder=tmp_path / "cache")


def test_a_manifest_that_lies_is_refused_on_opening(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"count": 17', '"count": 18'))
    with pytest.raises(ManifestError, match=r"manifest\.json: .*label_counts sum to 80"):
        opened(folder)


def test_foreign_labels_beyond_the_classes_asked_for_are_errors_of_their_samples(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES, manifest=False)
    stream = opened(folder, classes=4, cache_folder=tmp_path / "cache")
    with pytest.raises(ShardError, match=r"label is 4, must be below the number of classes, 4"):
        list(itertools.islice(stream.batches(0, batch_size=12), 7))
