"""How far long work is: on standard error, now and then, and nothing of short work."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from framework.networks.dcgan import Generator
from framework.sampling.generate import generate
from framework.utils import progress
from framework.utils.progress import show_progress
from tests.helpers.launch import environment


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def work(clock: Clock, *, total: int, each: int, seconds: float, enabled: bool = True) -> None:
    with show_progress("looking", total=total, enabled=enabled) as advance:
        for _ in range(0, total, each):
            clock.now += seconds
            advance(each)


def test_lines_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    work(clock, total=1000, each=50, seconds=2.0)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "looking: 250 of 1,000 images, 25.0 images/s, ETA 0:30",
        "looking: 500 of 1,000 images, 25.0 images/s, ETA 0:20",
        "looking: 750 of 1,000 images, 25.0 images/s, ETA 0:10",
        "looking: 1,000 of 1,000 images, 25.0 images/s, ETA 0:00",
    ]


def test_the_last_line_comes_at_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    work(clock, total=1000, each=100, seconds=4.0)
    assert capsys.readouterr().err.splitlines() == [
        "looking: 300 of 1,000 images, 25.0 images/s, ETA 0:28",
        "looking: 600 of 1,000 images, 25.0 images/s, ETA 0:16",
        "looking: 900 of 1,000 images, 25.0 images/s, ETA 0:04",
        "looking: 1,000 of 1,000 images, 25.0 images/s, ETA 0:00",
    ]


@pytest.mark.parametrize("enabled", [True, False])
def test_short_or_silent_work_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str], enabled: bool) -> None:
    work(clock, total=1000, each=50, seconds=0.4 if enabled else 60.0, enabled=enabled)
    assert capsys.readouterr() == ("", "")


def test_more_than_all_is_all(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Rank 0 counts its own share times the processes."""
    work(clock, total=130, each=100, seconds=20.0)
    assert capsys.readouterr().err.splitlines()[-1].startswith("looking: 130 of 130 images")


def test_drawing_gives_the_same_images(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    network = Generator(resolution=64, channels=1, width=2, z_dim=4).eval()
    z = torch.randn(70, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(generate(network, z, progress=True), generate(network, z))


def test_on_a_terminal_there_is_a_bar(tmp_path: Path) -> None:
    program = (
        "from framework.utils.progress import show_progress\n"
        "with show_progress('looking', total=8, enabled=True) as advance:\n"
        "    for _ in range(8): advance(1)\n"
        "print('result')\n"
    )
    ours, theirs = pty.openpty()
    with open(tmp_path / "out", "wb") as out:
        environ = environment() | {"TERM": "xterm", "COLUMNS": "100"}
        done = subprocess.run([sys.executable, "-c", program], stdout=out, stderr=theirs, env=environ)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "8/8" in shown
    assert "images/s" in shown
    assert (tmp_path / "out").read_text() == "result\n"
