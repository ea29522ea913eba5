"""A staging folder from elsewhere, or a damaged one: the same command makes the same data set, or names the folder."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.data.errors import DataError
from tests.helpers.packing import staging_left
from tests.helpers.pictures import hashes, make_npz, pack_quietly

OPTIONS = {"shard_samples": 4, "workers": 1}
SHARD = "train-000001.tar"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source, the data set `whole` that is made of it, and the staging folder `left` with two of its three shards."""
    root = tmp_path_factory.mktemp("left")
    make_npz(root / "a.npz", count=12)
    pack_quietly(root / "a.npz", root / "whole", **OPTIONS)
    staging_left(root / "a.npz", root / "out", shards=2, **OPTIONS).rename(root / "left")
    return root


def packed(left: Path, folder: Path, change: Callable[[Path], object]) -> dict[str, str]:
    """The hashes of what is made where a changed staging folder stands."""
    staging = folder / ".out.part"
    shutil.copytree(left / "left", staging)
    change(staging)
    pack_quietly(left / "a.npz", folder / "out", **OPTIONS)
    assert not staging.exists()
    return hashes(folder / "out")


def _line(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """The line of the second shard is another one."""

    def edit(staging: Path) -> None:
        path = staging / "progress.jsonl"
        *before, last = path.read_text().splitlines()
        line = json.loads(last)
        change(line)
        path.write_text("\n".join([*before, json.dumps(line)]) + "\n")

    return edit


def _text(text: str) -> Callable[[Path], None]:
    """Something else stands in the second shard's line."""

    def edit(staging: Path) -> None:
        path = staging / "progress.jsonl"
        path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines()[:2]) + text + "\n")

    return edit


def _entry(**fields: object) -> Callable[[Path], None]:
    return _line(lambda line: line["shards"][0].update(fields))


def _renamed_outside(staging: Path) -> None:
    """The shard named is whole, but stands outside."""
    for suffix in (".tar", ".idx"):
        shutil.copy((staging / SHARD).with_suffix(suffix), staging.parent / f"train-000001{suffix}")
    _line(lambda line: line.update(files={f"../{name}": size for name, size in line["files"].items()}))(staging)


def _linked(staging: Path) -> None:
    (staging / SHARD).rename(staging.parent / "elsewhere.tar")
    (staging / SHARD).symlink_to(staging.parent / "elsewhere.tar")


def _pipe(staging: Path) -> None:
    (staging / "progress.jsonl").unlink()
    os.mkfifo(staging / "progress.jsonl")


def _altered(staging: Path) -> None:
    content = bytearray((staging / SHARD).read_bytes())
    content[600] ^= 1
    (staging / SHARD).write_bytes(content)


def _other_index(staging: Path) -> None:
    path = (staging / SHARD).with_suffix(".idx")
    path.write_bytes(path.read_bytes().replace(b"000000004.cls", b"000000009.cls"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda staging: None,
    "a number": _text("3"),
    "a list": _text("[]"),
    "brackets": _text("[" * 100_000),
    "no UTF-8": lambda staging: (staging / "progress.jsonl").write_bytes(b"\xff\xfe\n"),
    "a pipe": _pipe,
    "endless": lambda staging: os.truncate(staging / "progress.jsonl", 1 << 40),
    "no files": _line(lambda line: line.pop("files")),
    "files as a list": _line(lambda line: line.update(files=list(line["files"]))),
    "a size as text": _line(lambda line: line["files"].update({SHARD: "7"})),
    "a name with ..": _renamed_outside,
    "a name with NUL": _line(lambda line: line["files"].update({"a\0b.tar": 1, "a\0b.idx": 1})),
    "no entry": _line(lambda line: line.update(shards=[])),
    "an entry with one field more": _entry(x=1),
    "a count as text": _entry(count="4"),
    "a huge count": _entry(count=2**63),
    "another count": _entry(count=3),
    "another digest": _entry(sha256="0" * 64),
    "bad as numbers": _line(lambda line: line.update(bad=[1])),
    "label counts below 0": _line(lambda line: line.update(label_counts=[-1, 5, 0, 0])),
    "position as a float": _line(lambda line: line.update(position=8.0)),
    "animated as a text": _line(lambda line: line.update(animated="1")),
    "an altered shard": _altered,
    "a link": _linked,
    "another index": _other_index,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_files_do_not_bear_out_is_made_anew(left: Path, tmp_path: Path, change: str) -> None:
    assert packed(left, tmp_path, CHANGES[change]) == hashes(left / "whole")


@pytest.mark.parametrize(
    "change",
    [
        _line(lambda line: line.update(position=9)),
        _line(lambda line: line.update(position=10**6, bad=[["a", "b"]] * (10**6 - 8))),
        _line(lambda line: line.update(label_counts=[4])),
        _line(lambda line: line.update(label_counts=[2**53, 0, 0, 0])),
        lambda staging: (staging / "progress.jsonl").write_text(
            "".join(f"{(staging / 'progress.jsonl').read_text().splitlines()[at]}\n" for at in (0, 2))
        ),
    ],
)
def test_what_leads_to_another_data_set_is_an_error(
    left: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    with pytest.raises(DataError, match=r"\.out\.part: shard \d of an earlier run does not fit .* remove the folder"):
        packed(left, tmp_path, change)


def test_a_link_in_place_of_the_staging_folder_is_not_cleared(left: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years of work")
    (tmp_path / ".out.part").symlink_to("home")
    with pytest.raises(DataError, match="is a link, must be a folder"):
        pack_quietly(left / "a.npz", tmp_path / "out", **OPTIONS)
    assert (tmp_path / "home/thesis.tex").read_text() == "years of work"


def test_a_linked_folder_inside_is_not_written_to(left: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/train-000000.tar").write_text("years of work")
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part/r004").symlink_to(tmp_path / "home")
    pack_quietly(left / "a.npz", tmp_path / "out", resolution=(4, 8), **OPTIONS)
    assert [file.read_text() for file in (tmp_path / "home").iterdir()] == ["years of work"]
    assert not (tmp_path / "out/r004").is_symlink()
