"""Accelerate's own DeepSpeed launcher, as a cluster that is set up for it would use: with our engine, or refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from framework.checkpoint import list_checkpoints
from tests.helpers.launch import ROOT, TINY, environment

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def launch(*flags: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(Path(sys.executable).parent / "accelerate"), "launch"]
    config = ["--config_file", str(ROOT / "launch/accelerate/deepspeed.yaml")]
    return subprocess.run(
        [*program, *config, str(TINY), "--images", "64", "--tracking", "none", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,  # the configuration names launch/deepspeed/zero2.json
        env=environment(),
        timeout=200,
    )


def test_it_trains_with_the_engine_that_the_flags_name(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    done = launch("--engine", "zero2", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stdout
    assert "2 process(es) on cpu, engine zero2" in done.stdout
    assert list_checkpoints(tmp_path / "run/checkpoints") == [64]


def test_without_the_engine_it_is_refused_and_not_ignored(tmp_path: Path) -> None:
    done = launch("--out", str(tmp_path / "run"))
    assert done.returncode != 0
    assert "asks for DeepSpeed, but this launch has --engine ddp" in done.stdout
    assert not (tmp_path / "run").exists()
