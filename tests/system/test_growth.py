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
from tests.helpers.journals import science
from tests.helpers.launch import ROOT, Launch, environment, run, tensors, unequal

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


def test_ended_at_a_boundary_and_continued_it_gives_the_same_bits(straight: Path, tmp_path: Path) -> None:
    out, end = tmp_path / "run", 192
    run(RECIPE, *FLAGS, "--images", str(end), "--out", str(out), log=tmp_path / "first.log")
    assert list_checkpoints(out / "checkpoints")[-1] == end
    text = run(RECIPE, *FLAGS, "--out", str(out), log=tmp_path / "second.log")
    assert f"resumed at {end} images" in text
    assert unequal(straight / "run" / "checkpoints" / str(END), out / "checkpoints" / str(END)) == []


def test_stopped_in_mid_fade_and_resumed_it_gives_the_same_bits_and_points_of_the_log(
    straight: Path, tmp_path: Path
) -> None:
    """Between two points: what had been summed up for the next one goes through the checkpoint."""
    out, program = tmp_path / "run", ROOT / "tests" / "recipes" / "stopped_progan.py"
    flags, at = (*FLAGS, "--out", str(out)), {"FRAMEWORK_TEST_STOP_AT": "328"}
    with Launch(program, *flags, log=tmp_path / "first.log", extra=at) as stopped:
        assert stopped.wait() == 1, stopped.text()  # torch's launcher makes that of 75
    saved = list_checkpoints(out / "checkpoints")[-1]
    assert 328 < saved < 368, "while 32 x 32 fades in"
    assert (out / "PREEMPTED").exists()
    text = run(program, *flags, log=tmp_path / "second.log")
    assert f"resumed at {saved} images" in text
    expected, found = (folder / "checkpoints" / str(END) for folder in (straight / "run", out))
    undisturbed, points = science(straight / "run"), science(out)
    clocks = [images for images, _ in undisturbed["loss/D"]]
    print(f"stopped at {saved}: {len(tensors(found))} tensors and {len(points)} metrics at {clocks} compared")
    assert unequal(expected, found) == []
    assert saved not in clocks
    assert max(clock for clock in clocks if clock < saved) < 328, "steps before and after the stop share a point"
    assert {name: values for name, values in points.items() if values != undisturbed.get(name)} == {}
    assert points.keys() == undisturbed.keys()


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
