import dataclasses
import io
import json
import tarfile
from pathlib import Path

import pytest

from framework.data.errors import ManifestError, ShardError
from framework.data.index import index_shard, parse_index, read_index, write_index
from framework.data.manifest import (
    Manifest,
    ShardEntry,
    fingerprint,
    load_manifest,
    load_resolutions,
    parse_resolutions,
    save_manifest,
    save_resolutions,
)
from tests.unit.data.stream_helpers import destroy_header, make_set, overwrite, truncate, write_tar

SHARD = ShardEntry(name="train-000000.tar", count=3, bytes=4096, sha256="ab" * 32)
GOOD = Manifest(
    name="set",
    split="train",
    resolution=32,
    channels=3,
    classes=2,
    class_names=("cat", "dog"),
    label_counts=(1, 2),
    shards=(SHARD,),
    source={"kind": "folder", "license": "MIT"},
)


def test_manifest_survives_a_round_trip_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    save_manifest(GOOD, tmp_path)
    assert load_manifest(tmp_path) == GOOD
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    data = json.loads((tmp_path / "manifest.json").read_text())
    assert (data["format"], data["count"], data["fingerprint"]) == (1, 3, GOOD.fingerprint)


def test_fingerprint_is_that_of_names_counts_and_bytes() -> None:
    assert GOOD.fingerprint == fingerprint([SHARD])
    for change in ({"name": "x.tar"}, {"count": 4}, {"sha256": "cd" * 32}):
        assert fingerprint([dataclasses.replace(SHARD, **change)]) != GOOD.fingerprint
    assert fingerprint([dataclasses.replace(SHARD, bytes=1)]) == GOOD.fingerprint


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"resolution": 0}, "resolution is 0"),
        ({"channels": 2}, "channels is 2"),
        ({"class_names": ("cat",)}, "class_names has 1 of 2"),
        ({"label_counts": (1, 1)}, "label_counts sum to 2, the shards to 3"),
        ({"encoding": "gif"}, "encoding is 'gif'"),
        ({"shards": ()}, "has no shards"),
        ({"shards": (SHARD, SHARD)}, "train-000000.tar is listed twice"),
        ({"shards": (dataclasses.replace(SHARD, name="../a.tar"),)}, "not a plain file name"),
        ({"shards": (dataclasses.replace(SHARD, sha256="x"),)}, "64 hex digits"),
        ({"shards": (dataclasses.replace(SHARD, count=0),)}, "is empty"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(change: dict, text: str) -> None:
    with pytest.raises(ManifestError, match=text):
        dataclasses.replace(GOOD, **change)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 2}, r"not a data manifest of format 1 \(found 2\)"),
        ({"count": 4}, "count says 4"),
        ({"fingerprint": "0"}, "fingerprint says '0'"),
        ({"resolution": "32"}, "'resolution' must be of type int, is '32'"),
        ({"channels": True}, "'channels' must be of type int"),
        ({"shards": [{"name": "a.tar"}]}, "'count' must be of type int, is None"),
        ({"class_names": [1, 2]}, "'class_names' must be of type str"),
    ],
)
def test_manifest_file_with_a_wrong_field_is_refused_by_name(tmp_path: Path, change: dict, text: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(GOOD.to_json() | change))
    with pytest.raises(ManifestError, match=f"manifest.json: .*{text}"):
        load_manifest(tmp_path)


def test_missing_and_garbled_manifests_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="framework pack"):
        load_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match="is not valid JSON"):
        load_manifest(tmp_path)


def test_parent_manifest(tmp_path: Path) -> None:
    save_resolutions({8: "r008", 4: "r004"}, tmp_path)
    assert load_resolutions(tmp_path) == {4: "r004", 8: "r008"}
    with pytest.raises(ManifestError, match="names several resolutions; open one of its folders: r004, r008"):
        load_manifest(tmp_path)
    save_manifest(GOOD, tmp_path)
    assert load_resolutions(tmp_path) is None
    with pytest.raises(ManifestError, match="sub-folder"):
        parse_resolutions('{"format": 1, "resolutions": {"4": "../x"}}', origin="here")


def test_index_points_at_the_payloads(tmp_path: Path) -> None:
    shard = make_set(tmp_path, sizes=(4,)) / "train-000000.tar"
    lines = read_index(shard.with_suffix(".idx"))
    assert list(lines) == index_shard(shard)
    assert [lines[-1], *lines[:2]] == [lines[3], lines[0], lines[1]]
    with pytest.raises(IndexError):
        lines[4]
    data = shard.read_bytes()
    with tarfile.open(shard) as tar:
        for sample in lines:
            for member in sample.members:
                found = tar.extractfile(member.name)
                assert found is not None
                assert data[member.offset : member.offset + member.size] == found.read()


def test_index_text_is_dalis(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", [("x/0.cls", b"7"), ("x/0.JPG", b"abc"), ("1.png", b"de")])
    write_index(tmp_path / "a.idx", index_shard(shard))
    assert (tmp_path / "a.idx").read_text() == "v1.2 2\ncls 512 1 x/0.cls JPG 1536 3 x/0.JPG\npng 2560 2 1.png\n"
    sample = read_index(tmp_path / "a.idx")[0]
    assert (sample.key, [member.extension for member in sample.members]) == ("x/0", ["cls", "jpg"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a v1.2 index"),
        ("v1.1 1\na 1 1 b\n", "not a v1.2 index"),
        ("v1.2 2\npng 512 1 0.png\n", "says 2 samples, lists 1"),
        ("v1.2 1\npng 512 0.png\n", "not a line of a v1.2 index"),
        ("v1.2 1\npng 5 1 0.png\n", "not a line"),
    ],
)
def test_garbled_index_is_refused(text: str, why: str) -> None:
    with pytest.raises(ManifestError, match=f"here: .*{why}"):
        list(parse_index(text, origin="here"))


def test_missing_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"a\.idx: cannot be read"):
        read_index(tmp_path / "a.idx")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ([("0.png", b""), ("1.png", b""), ("0.cls", b"1")], "sample 0: members of the sample are not adjacent"),
        ([("noextension", b"")], "member name 'noextension'"),
        ([("a b.png", b"")], "member name 'a b.png'"),
        ([], "holds no samples"),
        *[
            ([("0.png", b""), (f"0.{kind}", b"")], rf"sample 0: member \.{kind} is refused: .* can run code")
            for kind in ("pkl", "pickle", "pyd", "pth", "pt", "npy", "seg.npz", "PTH".lower())
        ],
    ],
)
def test_shards_that_cannot_be_used_are_refused(tmp_path: Path, members: list, text: str) -> None:
    with pytest.raises(ShardError, match=rf"a\.tar, {text}" if text.startswith("sample") else rf"a\.tar: {text}"):
        index_shard(write_tar(tmp_path / "a.tar", members))


def test_upper_case_does_not_smuggle_an_unsafe_member(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="is refused"):
        index_shard(write_tar(tmp_path / "a.tar", [("0.png", b""), ("0.PTH", b"")]))


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("0.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info, io.BytesIO())
    with pytest.raises(ShardError, match=r"member '0\.png' is not a plain file"):
        index_shard(tmp_path / "a.tar")


def test_damage_that_tarfile_passes_over_is_found(tmp_path: Path) -> None:
    shard = make_set(tmp_path, sizes=(9,)) / "train-000000.tar"
    whole = shard.read_bytes()
    destroy_header(shard, 5)
    with tarfile.open(shard) as tar:
        assert len(tar.getmembers()) == 11, "tarfile takes the noise for the end: that is the trap"
    with pytest.raises(ShardError, match=r"train-000000\.tar: damaged tar: no end mark after 6 samples"):
        index_shard(shard)
    shard.write_bytes(whole)
    truncate(shard)
    with pytest.raises(ShardError, match=r"train-000000\.tar: damaged tar"):
        index_shard(shard)
    shard.write_bytes(whole[: len(whole) // 512 * 512 - 10240])
    with pytest.raises(ShardError, match="damaged tar"):
        index_shard(shard)
    overwrite(shard, 0, b"\xff" * 512)
    with pytest.raises(ShardError, match="damaged tar"):
        index_shard(shard)
    with pytest.raises(ShardError, match=r"gone\.tar: cannot be read \(No such file"):
        index_shard(tmp_path / "gone.tar")
