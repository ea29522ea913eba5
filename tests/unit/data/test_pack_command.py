"""`framework pack` as it is typed, and the data set that ships with the repository."""

from pathlib import Path

import numpy as np
import pytest
import tyro

from framework.commands.pack import pack
from framework.data.index import index_shard, read_index
from framework.data.manifest import file_sha256, load_manifest, load_resolutions
from framework.data.packing.images import open_upright
from framework.data.readers import open_source
from framework.utils.errors import FrameworkError

VENDORED = Path(__file__).parents[3] / "recipes" / "data" / "fashion_mnist"


def run(*words: object) -> None:
    tyro.cli(pack, args=[str(word) for word in words])


@pytest.fixture
def arrays(tmp_path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(20) % 2)
    return tmp_path / "a.npz"


def test_command_packs_and_says_what_it_made(tmp_path, arrays, capsys):
    (tmp_path / "licence.txt").write_text("MIT\n")
    run(arrays, tmp_path / "out", "--pad", 8, "--encoding", "webp", "--per-class", 4, "--class-names", "on", "off",
        "--shard-samples", 5, "--seed", "None", "--notice", tmp_path / "licence.txt")  # fmt: skip
    printed = capsys.readouterr()
    assert printed.out.strip().endswith("out: 8 images 8x8x1 as webp, 2 classes, 2 shards, 0.0 MB")
    assert printed.err == "", "progress of what takes seconds"
    manifest = load_manifest(tmp_path / "out")
    assert (manifest.class_names, manifest.label_counts) == (("on", "off"), (4, 4))
    assert (tmp_path / "out" / "NOTICE").read_text() == "MIT\n"


def test_command_draws_a_bar_on_a_terminal(tmp_path, arrays, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    run(arrays, tmp_path / "out")
    assert "20/20" in (printed := capsys.readouterr().err)
    assert "images/s" in printed


def test_command_takes_several_resolutions(tmp_path, arrays, capsys):
    run(arrays, tmp_path / "out", "--no-progress", "--no-labels", "--resolution", 3, 6)
    assert load_resolutions(tmp_path / "out") == {3: "r003", 6: "r006"}
    assert load_manifest(tmp_path / "out" / "r003").classes == 0
    assert capsys.readouterr().err == ""


def test_command_fails_with_a_text(tmp_path, arrays):
    with pytest.raises(FrameworkError, match=r"notice .*gone\.txt: cannot be read"):
        run(arrays, tmp_path / "out", "--notice", tmp_path / "gone.txt")
    with pytest.raises(FrameworkError, match="is 6x6, larger than pad = 5"):
        run(arrays, tmp_path / "out", "--pad", 5, "--no-progress")


def test_vendored_fashion_mnist_is_whole_balanced_and_small():
    manifest = load_manifest(VENDORED)
    assert sum(file.stat().st_size for file in VENDORED.iterdir()) <= 4_000_000
    assert (manifest.count, manifest.resolution, manifest.channels) == (1750, 32, 1)
    assert manifest.label_counts == (175,) * 10
    assert manifest.class_names[1] == "Trouser"
    for shard in manifest.shards:
        path = VENDORED / shard.name
        assert file_sha256(path) == shard.sha256
        assert list(read_index(path.with_suffix(".idx"))) == index_shard(path)
    assert "Copyright (c) 2017 Zalando SE" in (VENDORED / "NOTICE").read_text()


def test_vendored_pictures_are_grey_with_a_black_border():
    source = open_source(VENDORED)
    seen = set()
    for index in range(len(source)):
        stored = np.asarray(open_upright(source.read(index))[0])
        assert stored.shape == (32, 32, 3)
        assert (stored == stored[..., :1]).all()
        inner = stored[2:30, 2:30].astype(int)
        assert inner.sum() == stored.sum() > 0
        seen.add(inner.tobytes())
    assert len(seen) == 1750, "no picture twice"
