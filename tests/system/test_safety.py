"""Training and resuming unpickle nothing; a diverging run stops by itself and keeps its checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.checkpoint import Checkpoint, list_checkpoints
from tests.helpers.launch import ROOT, TINY, Launch, run

pytestmark = pytest.mark.timeout(300)


def test_nothing_is_unpickled_in_training_or_resume(tmp_path: Path) -> None:
    audited, out = ROOT / "tests/recipes/audited.py", tmp_path / "run"
    data = ("--data", str(ROOT / "recipes/data/fashion_mnist"), "--tracking", "none", "--out", str(out))
    for images in ("64", "128"):
        text = run(audited, "--images", images, *data, world=1, log=tmp_path / f"{images}.log")
        assert (out / "unpickled.txt").read_text() == ""
    assert "resumed at 64 images" in text


def test_a_diverging_run_stops_with_its_last_checkpoint_intact(tmp_path: Path) -> None:
    flags = ("--tracking", "none", "--out", str(tmp_path / "run"), "--most-skipped-steps", "3")
    run(TINY, *flags, "--images", "64", world=1, log=tmp_path / "good.log")
    # A learning rate beyond fp32 makes weights infinite in one step; every later one is not finite.
    wild = (*flags, "--images", "640", "--allow-change", "--set", "generator.optimizer.lr=1e38")
    with Launch(TINY, *wild, world=1, log=tmp_path / "bad.log") as launch:
        assert launch.wait() == 2
        text = launch.text()
    assert "3 steps in a row had a non-finite loss or gradient" in text
    assert "Traceback" not in text
    assert list_checkpoints(tmp_path / "run/checkpoints") == [64]
    Checkpoint.open(tmp_path / "run/checkpoints/64").verify("hash")


def test_a_damaged_shard_stops_training_with_its_name(tmp_path: Path) -> None:
    import shutil

    shards = tmp_path / "shards"
    shutil.copytree(ROOT / "recipes/data/fashion_mnist", shards)
    victim = shards / "train-000002.tar"
    victim.write_bytes(victim.read_bytes()[:-50_000])
    flags = ("--tracking", "none", "--out", str(tmp_path / "run"), "--images", "640", "--data", str(shards))
    with Launch(TINY, *flags, world=2, log=tmp_path / "log") as launch:
        assert launch.wait(timeout_seconds=120) != 0
        assert "train-000002.tar" in launch.text()
