import json
from pathlib import Path

import pytest
import tyro
import webdataset

from framework.commands import data
from framework.data.errors import DataError, ShardError
from framework.data.manifest import load_manifest, save_resolutions
from framework.data.stream import open_stream
from tests.unit.data.stream_helpers import (
    CLASSES,
    destroy_header,
    destroy_picture,
    make_set,
    picture,
    serve,
    set_label,
    truncate,
)

SIZES = (8, 9, 10, 11, 12)


def run(*arguments: str | Path) -> int:
    commands = {"verify": data.verify, "index": data.index, "inspect": data.inspect}
    return tyro.extras.subcommand_cli_from_dict(commands, args=list(map(str, arguments)))


def test_verify_finds_every_fault_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES)
    assert run("verify", folder) == 0
    assert "5 shards, 50 samples, 50 pictures decoded: no fault" in capsys.readouterr().out
    picture_key = destroy_picture(folder / "train-000000.tar")
    label_key = set_label(folder / "train-000001.tar", b"9")
    truncate(folder / "train-000002.tar")
    destroy_header(folder / "train-000003.tar")
    (folder / "train-000004.tar").unlink()
    assert run("verify", folder, "--json") == 1
    result = json.loads(capsys.readouterr().out)
    for number, text in enumerate(
        [
            "000000.tar: the SHA-256 differs",
            f"000000.tar, sample {picture_key}: .png is unusable",
            "000001.tar: the SHA-256 differs",
            f"000001.tar, sample {label_key}: .cls is unusable: label is 9",
            "000002.tar: has",
            "000003.tar: the SHA-256 differs",
            "000003.tar: damaged tar: no end mark after 6 samples",
            "000004.tar: cannot be opened",
        ]
    ):
        assert text in result["faults"][number]
    assert len(result["faults"]) == 8
    assert run("verify", folder) == 1
    assert "8 fault(s)" in capsys.readouterr().out


def test_verify_decodes_a_sample_when_told_and_looks_at_all_resolutions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in (8, 16):
        make_set(tmp_path / f"r{side:03d}", sizes=SIZES, side=side)
    save_resolutions({8: "r008", 16: "r016"}, tmp_path)
    assert run("verify", tmp_path, "--sample", "7") == 0
    assert "10 shards, 100 samples, 14 pictures decoded" in capsys.readouterr().out
    index = tmp_path / "r016" / "train-000001.idx"
    index.write_text(index.read_text().replace("000000009.png", "000000008.png"))
    assert run("verify", tmp_path) == 1
    assert "r016/train-000001.tar: its index does not describe it" in capsys.readouterr().out
    assert run("verify", tmp_path / "nothing") == 1
    assert "no such file or folder" in capsys.readouterr().out


def test_verify_fetches_remote_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_set(tmp_path / "a", sizes=SIZES)
    with serve(tmp_path) as server:
        assert run("verify", server.url("ok", "a/"), "--cache-folder", tmp_path / "cache") == 0
        assert "50 pictures decoded: no fault" in capsys.readouterr().out


def test_index_makes_a_set_of_foreign_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "x-%03d.tar"), maxcount=15, verbose=0) as writer:
        for n in range(40):
            writer.write({"__key__": f"{n:04d}", "png": picture(n), "cls": n % CLASSES})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run("index", folder, "--name", "theirs", "--split", "all") == 0
    assert "3 shards, 40 samples, 5 classes, 32x32 png" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == before
    assert sorted(path.suffix for path in folder.iterdir()) == [".idx"] * 3 + [".json"] + [".tar"] * 3
    manifest = load_manifest(folder)
    assert (manifest.name, manifest.split, manifest.label_counts) == ("theirs", "all", (8,) * 5)
    assert run("verify", folder) == 0
    assert open_stream(folder, resolution=32, classes=CLASSES).count == 40
    with pytest.raises(DataError, match=r"manifest\.json: exists; .* --force"):
        run("index", folder)
    assert run("index", f"{folder}/x-{{000..001}}.tar", "--force", "--json") == 0
    assert load_manifest(folder).count == 30


def test_index_refuses_damage_and_strange_places(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES, manifest=False)
    destroy_header(folder / "train-000003.tar")
    with pytest.raises(ShardError, match=r"train-000003\.tar: damaged tar"):
        run("index", folder)
    assert not (folder / "manifest.json").exists()
    make_set(tmp_path / "b", sizes=SIZES, manifest=False)
    for location, text in (
        (f"{tmp_path}/{{a,b}}/train-000000.tar", "several folders"),
        ("https://host/a.tar", "only local shards"),
        (str(tmp_path), "no .tar shards"),
    ):
        with pytest.raises(DataError, match=text):
            run("index", location)


def test_inspect_tells_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES)
    assert run("inspect", folder) == 0
    text = capsys.readouterr().out
    for part in ("50 in 5 shards of 8 to 12", "32x32 RGB, png", "000000000, 000000001", "class 4", "10  ███"):
        assert part in text
    assert run("inspect", folder, "--json", "--keys", "2") == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["count"], report["label_counts"], report["keys"]) == (50, [10] * 5, ["000000000", "000000001"])
