"""A growing recipe through its phases: resumed in mid-fade and across boundaries, equal to the bit; memory; samples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from framework.checkpoint import list_checkpoints
from framework.sampling.load import load_generator
from tests.helpers.launch import ROOT, environment, run, tensors, unequal

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]
RECIPE = ROOT / "tests" / "recipes" / "tiny_progan.py"
END = 464
FLAGS = ("--log-every-images", "64", "--workers", "1", "--tracking", "none", "--keep-last", "20")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four phases on two processes without interruption; the printed lines stand in `log`."""
    folder = tmp_path_factory.mktemp("straight")
    run(RECIPE, *FLAGS, "--out", str(folder / "run"), log=folder / "log")
    return folder


def test_every_boundary_has_a_checkpoint_and_gives_memory_back(straight: Path) -> None:
    assert list_checkpoints(straight / "run" / "checkpoints") == [64, 128, 192, 256, 320, 368, 464]
    text = (straight / "log").read_text()
    memory = re.findall(r"(\d+)x\1 (?:stable|fading in): ended at \d+ images, memory in use ([\d.]+) MiB", text)
    print("memory in use after each phase:", "  ".join(f"{side}px {mib} MiB" for side, mib in memory))
    assert [int(side) for side, _ in memory] == [4, 8, 8, 16, 16, 32, 32]
    first, last = float(memory[0][1]), float(memory[-1][1])
    # 64 times the pixels of the first phase; what stays is the optimiser's state of all layers, made in the first.
    assert last - first < 64


@pytest.mark.parametrize("stop", [352, 192], ids=["in mid-fade", "at a boundary"])
def test_resumed_gives_the_same_bits(straight: Path, tmp_path: Path, stop: int) -> None:
    out = tmp_path / "run"
    run(RECIPE, *FLAGS, "--images", str(stop), "--out", str(out), log=tmp_path / "first.log")
    assert list_checkpoints(out / "checkpoints")[-1] == stop
    text = run(RECIPE, *FLAGS, "--out", str(out), log=tmp_path / "second.log")
    assert f"resumed at {stop} images" in text
    expected, found = (folder / "checkpoints" / str(END) for folder in (straight / "run", out))
    print(f"stopped at {stop}: {len(tensors(found))} tensors compared")
    assert unequal(expected, found) == []


def test_samples_come_at_the_resolution_reached(straight: Path) -> None:
    import torch

    for images, side in ((64, 8), (192, 16), (256, 16), (464, 32)):  # a boundary belongs to the phase that begins
        generator = load_generator(straight / "run" / "checkpoints" / str(images))
        assert generator.network(torch.zeros(2, generator.z_dim)).shape[-1] == side


def test_dry_run_plays_one_step_of_every_phase_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPE), "--dry-run", "--json", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True, timeout=120)
    report = json.loads(done.stdout)
    rows = report["phases"]
    assert [(row["resolution"], row["batch_size"]) for row in rows] == [(4, 16), (8, 16), (16, 8), (32, 8)]
    assert all(row["memory_bytes"] > 50 << 20 and row["seconds_per_kimg"] > 0 for row in rows)
    assert not (tmp_path / "run").exists()
