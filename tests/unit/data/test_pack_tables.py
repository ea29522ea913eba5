"""Tables of numbers: what becomes vectors, what is refused with its line and column, and that packing them resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro

from framework.commands.pack import pack as command
from framework.data.errors import DataError
from framework.data.fields import Label
from framework.data.inspection import find_faults, report_on
from framework.data.manifest import load_manifest
from framework.data.packing.options import PackOptions
from framework.data.points import Vector
from framework.data.readers import SourceError, open_source
from framework.data.readers.tables import open_table
from framework.data.stream import open_stream
from tests.helpers.packing import staging_left
from tests.helpers.pictures import hashes, make_npz, pack_quietly


def table(folder: Path, content: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def vectors(path: Path, **options: Any) -> list[list[float]]:
    source = open_table(path, **options)
    return [np.frombuffer(source.read(index), "<f4").tolist() for index in range(len(source))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "1,-2.5\n.5,3e2\n"),
        ("a.csv", "1,-2.5\n.5,3e2"),
        ("a.csv", "x,y\n1,-2.5\n.5,3e2\n\n\n"),
        ("a.csv", '\ufeff"x","y"\r\n"1"," -2.5"\r\n+0.50 , 300.\r\n'),
        ("a.tsv", "x\ty\n1\t-2.5\n.5\t3e2\n"),
    ],
    ids=["plain", "no last line end", "header", "spreadsheet", "tabs"],
)
def test_lines_are_vectors(tmp_path: Path, name: str, content: str) -> None:
    assert vectors(table(tmp_path, content, name)) == [[1.0, -2.5], [0.5, 300.0]]


def test_numbers_are_rounded_once(tmp_path: Path) -> None:
    texts = ["0.1", "16777217", "1e-45", "-3.4028234e38", "0.30000001192092896"]
    (found,) = vectors(table(tmp_path, ",".join(texts)))
    assert found == [float(np.float32(text)) for text in texts]


def test_labels_are_numbers_or_names(tmp_path: Path) -> None:
    numbered = table(tmp_path, "x,kind,y\n1,2,3\n4,0,6\n7,1,9\n", "numbered.csv")
    for column in ("kind", "2"):
        source = open_table(numbered, label_column=column)
        assert source.labels is not None
        assert (source.labels.tolist(), source.class_names, source.dims) == ([2, 0, 1], (), 2)
        assert vectors(numbered, label_column=column) == [[1, 3], [4, 6], [7, 9]]
    named = open_table(table(tmp_path, "x,kind\n1,dog\n2,cat\n3,dog\n"), label_column="kind")
    assert named.labels is not None
    assert (named.labels.tolist(), named.class_names) == ([1, 0, 1], ("cat", "dog"))
    # Without a header the number of the column says it, and a first line of a name and numbers is no header.
    assert open_table(table(tmp_path, "dog,1\ncat,2\n"), label_column="1").class_names == ("cat", "dog")
    assert open_table(numbered).dims == 3
    assert open_table(numbered, label_column="kind", labels=False).labels is None


FAULTS: list[tuple[str, str | bytes, str]] = [
    ("text", "1,2\n3,abc\n", r"a.csv, line 2, column 2: 'abc' is no number; .*--label-column"),
    ("nan", "1,2\n3,NaN\n", r"a.csv, line 2, column 2: 'NaN' is no finite number"),
    ("nan first", "nan,2\n3,4\n", r"a.csv, line 1, column 1: 'nan' is no finite number"),
    ("infinity", "1,2\n3,-inf\n", r"line 2, column 2: '-inf' is no finite number"),
    ("empty cell", "1,2\n3,\n", r"line 2, column 2: '' is no finite number"),
    ("too large", "1,2\n3,1e39\n", r"line 2, column 2: '1e39' is too large for a 32-bit number"),
    ("endless number", "1,2\n3,1e999\n", r"line 2, column 2: '1e999' is too large"),
    ("many digits and a letter", "1,2\n3," + "9" * 200_000 + "x\n", r"line 2, column 2: '9{40}\.\.\.' is no number"),
    ("underscore", "1,2\n3,1_0\n", r"line 2, column 2: '1_0' is no number"),
    ("other digits", "1,2\n3,\u0661\n", r"line 2, column 2: .* is no number"),
    ("half a header", "x,1\n2,3\n", r"line 1, column 1: 'x' is no number"),
    ("two headers", "x,y\nx,y\n1,2\n", r"line 2, column 1: 'x' is no number"),
    ("short line", "1,2\n3\n", r"line 2: has 1 columns, the first line has 2"),
    ("long line", "x,y\n3,4,5\n", r"line 2: has 3 columns, the first line has 2"),
    ("gap", "1,2\n\n3,4\n", r"line 2: is empty, and others follow"),
    ("nothing", "", r"a.csv: is empty; it needs lines of numbers"),
    ("blank lines", "\n\n\n", r"a.csv: is empty"),
    ("header only", "x,y\n", r"a.csv: has a header and no other line"),
    ("semicolons", "1;2\n3;4\n", r"a.csv, line 2, column 1: '3;4' is no number; cells are separated by commas"),
    ("tabs", "1\t2\n", r"a.csv"),
    ("binary", b"1,2\n\x00\x01\n", r"line 2: holds a byte 0"),
    ("UTF-16", "1,2\n".encode("utf-16"), r"line 1: holds a byte 0: this is no text in UTF-8"),
    ("Latin-1", b"1,2\n\xe9,3\n", r"line 2: is no text in UTF-8 \(byte 1\)"),
    ("huge line", "1," * (1 << 20) + "1\n", r"line 1: has more than 2,097,152 bytes"),
    ("many columns", ",".join(["1"] * 70_000), r"line 1: has 70,000 columns, at most 65,536 are read"),
]


@pytest.mark.parametrize(("content", "why"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_what_is_no_table_is_named_with_its_place(tmp_path: Path, content: str | bytes, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        open_table(table(tmp_path, content))


LABEL_FAULTS: list[tuple[str, str, str]] = [
    ("kind", "x,y\n1,2\n", r"a.csv: has no column 'kind' for the labels; it has x, y"),
    ("kind", "1,2\n", r"has no column 'kind' for the labels; it has 2, and no header"),
    ("3", "1,2\n", r"has no column '3' for the labels; it has 2"),
    ("0", "1,2\n", r"has no column '0' for the labels"),
    ("x", "x,x\n1,2\n", r"line 1: names several columns 'x'"),
    ("1", "1\n2\n", r"has no other column than that of the labels"),
    ("1", "a,2\n1,3\n", r"a.csv, line 2, column 1: '1' is a whole number, labels before it are not"),
    ("1", "1,2\n1,2\nb,3\n", r"a.csv, line 3, column 1: 'b' is a name, labels before it are not"),
    ("1", "1,2\n1.0,3\n", r"line 2, column 1: '1.0' is a name"),
    ("1", "1,2\n,3\n", r"line 2, column 1: '' is no label"),
    ("1", "1,2\n1000000,3\n", r"line 2, column 1: class 1000000 is above 999,999"),
]


@pytest.mark.parametrize(("column", "content", "why"), LABEL_FAULTS)
def test_labels_that_cannot_be_used_are_named(tmp_path: Path, column: str, content: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        open_table(table(tmp_path, content), label_column=column)


def test_options_of_pictures_and_of_tables_do_not_mix(tmp_path: Path) -> None:
    path = table(tmp_path, "1,2\n")
    for options, flag in (({"resolution": 8}, "resolution"), ({"skip_bad": True}, "skip-bad"), ({"pad": 4}, "pad")):
        with pytest.raises(SourceError, match=f"csv 'a': holds numbers, --{flag} is for pictures"):
            pack_quietly(path, tmp_path / "out", **options)
    with pytest.raises(SourceError, match="has one field, --fields names 2"):
        pack_quietly(path, tmp_path / "out", fields=("a", "b"))
    with pytest.raises(DataError, match="labels is False, but classes are asked for"):
        pack_quietly(path, tmp_path / "out", labels=False, label_column="1")
    make_npz(tmp_path / "a.npz", count=2)
    with pytest.raises(SourceError, match=r"a.npz: is no table, so it has no column '1' \(--label-column\)"):
        open_source(tmp_path / "a.npz", label_column="1")
    with pytest.raises(SourceError, match="no such file"):
        open_source(tmp_path / "gone.csv")


def test_an_option_of_tables_is_no_part_of_the_request_where_it_is_not_used() -> None:
    """So that packing pictures again finds the sets that were packed before there were tables."""
    assert "label_column" not in PackOptions().request()
    assert PackOptions(label_column="kind").request()["label_column"] == "kind"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"resolution": 8}, "resolution is 8, must be 0 of vectors"),
        ({"height": 2}, "field 'point': is a vector of several rows"),
        ({"channels": 3}, "field 'point': is a vector of several rows"),
        ({"width": 1 << 20}, "field 'point': has more pixels or numbers than the shards can hold"),
        ({"width": 0}, "field 'point': is 0x1 pixels"),
    ],
)
def test_a_manifest_of_impossible_vectors_is_refused(packed: Path, change: dict[str, int], why: str) -> None:
    manifest = load_manifest(packed)
    own = {name: value for name, value in change.items() if name == "resolution"}
    entry = replace(manifest.fields[0], **{name: value for name, value in change.items() if name not in own})
    with pytest.raises(DataError, match=why):
        replace(manifest, fields=(entry,), **own)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    lines = "".join(f"{n},{-n / 2},{'ab'[n % 2]}\n" for n in range(20))
    pack_quietly(table(tmp_path, f"x,y,kind\n{lines}"), tmp_path / "out", label_column="kind", shard_samples=8)
    return tmp_path / "out"


def test_a_packed_table_is_read_as_vectors(packed: Path) -> None:
    manifest = load_manifest(packed)
    assert (manifest.count, manifest.classes, manifest.class_names) == (20, 2, ("a", "b"))
    assert (manifest.resolution, manifest.encoding, manifest.source["kind"]) == (0, "f32", "csv")
    stream = open_stream(packed, fields=(Vector("point", 2), Label("label", 2)), workers=0)
    with stream.batches(0, batch_size=20, stop=20) as batches:
        (batch,) = batches
    rows = {
        tuple(point): label for point, label in zip(batch.fields["point"].tolist(), batch.labels.tolist(), strict=True)
    }
    assert rows == {(n, -n / 2): n % 2 for n in range(20)}
    assert list(rows) != [(n, -n / 2) for n in range(20)], "they are shuffled"
    assert find_faults(str(packed)).faults == []
    (report,) = report_on(str(packed))
    assert (report["decoded_bytes"], report["fields"][0]["width"]) == (20 * 8, 2)


def test_another_vector_than_what_was_packed_is_refused(packed: Path) -> None:
    with pytest.raises(DataError, match=r"'point' has 2 numbers, not 3; write Vector\('point', 2\)"):
        open_stream(packed, fields=(Vector("point", 3),), workers=0)
    with pytest.raises(DataError, match="has no vector 'code', it has point"):
        open_stream(packed, fields=(Vector("code", 2),), workers=0)
    with pytest.raises(DataError, match="has 2 classes, 3 are asked for"):
        open_stream(packed, fields=(Vector("point", 2), Label("label", 3)), workers=0)


def test_the_same_table_gives_the_same_bytes_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = table(tmp_path, "".join(f"{n},{n * n}\n" for n in range(20)))
    options: dict[str, Any] = {"shard_samples": 6, "fields": ("place",), "workers": 1}
    pack_quietly(path, tmp_path / "whole", **options)
    left = staging_left(path, tmp_path / "out", shards=2, **options)
    kept = {file: file.stat().st_ino for file in left.glob("*.tar") if "00000" in file.name}
    pack_quietly(path, tmp_path / "out", **options)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    again = {file.name: file.stat().st_ino for file in (tmp_path / "out").glob("*.tar")}
    assert [again[file.name] for file in sorted(kept)[:2]] == [kept[file] for file in sorted(kept)[:2]], "not made anew"
    with pytest.raises(DataError, match="already holds data set"):
        pack_quietly(table(tmp_path, "1,2\n"), tmp_path / "out", **options)


def test_command_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, "1,2,0\n3,4,1\n")
    words = [str(path), str(tmp_path / "out"), "--label-column", "3", "--no-progress"]
    tyro.cli(command, args=words)
    assert "out: 2 samples of point (2 numbers), 2 classes, 1 shards" in capsys.readouterr().out
