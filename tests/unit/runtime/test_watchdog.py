"""The watchdog in real processes and threads: what ends, how soon, with what words; and what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch.distributed as dist

from framework.runtime.watchdog import LONGER, STALLED, STEP, AwakeClock, Progress, Watchdog
from tests.helpers.launch import environment

PROGRAM = """
import ctypes, subprocess, sys, time
from pathlib import Path
from framework.runtime import watchdog
from framework.runtime.watchdog import Progress, Watchdog
watchdog.BACKSTOP_SECONDS = 1.0
progress = Progress()  # the other process cannot be asked: no store
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
def a_function_that_hangs():
    {hang}
with Watchdog(progress, world=2, stall_seconds={seconds}, folder=Path(sys.argv[1])):
    progress.stepped(images_seen=96)
    progress.beat("a training step")
    print(time.time(), flush=True)
    a_function_that_hangs()
"""


def hanging(folder: Path, hang: str, *, seconds: float) -> tuple[subprocess.CompletedProcess[str], float, int]:
    """Run a program that hangs; how long until it ended, and a child that it left or did not leave."""
    command = [sys.executable, "-c", PROGRAM.format(hang=hang, seconds=seconds), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    ended = time.time()
    child, begun = done.stdout.split()
    return done, ended - float(begun), int(child)


def test_a_process_that_hangs_writes_its_stacks_and_ends_with_its_children(tmp_path: Path) -> None:
    done, took, child = hanging(tmp_path / "stalls", "time.sleep(600)", seconds=2.0)
    print(f"--stall-seconds 2: ended after {took:.1f} s")
    assert done.returncode == STALLED
    assert 2.0 <= took < 2.0 + 10.0
    assert "rank 0: stalled at 96 images: no progress for 2 s" in done.stderr
    assert "in a_function_that_hangs" in done.stderr
    kept = (tmp_path / "stalls/rank-00000.txt").read_text()
    assert "in a_function_that_hangs" in kept
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_never_lets_the_interpreter_go_is_ended_by_a_timer_without_it(tmp_path: Path) -> None:
    # PyDLL keeps the interpreter lock during the call, so that no other thread of Python runs.
    done, took, child = hanging(tmp_path, "ctypes.PyDLL(None).sleep(600)", seconds=2.0)
    print(f"interpreter lock held, --stall-seconds 2 and 1 s more for the timer: ended after {took:.1f} s")
    assert done.returncode == 1
    assert took < 2.0 + 1.0 + 10.0
    assert "a_function_that_hangs" in done.stderr
    os.kill(child, signal.SIGKILL)  # the timer cannot


def test_beats_long_work_and_a_first_step_are_no_stall(tmp_path: Path) -> None:
    progress = Progress()
    with Watchdog(progress, stall_seconds=1.5, folder=tmp_path):  # one that fails ends pytest with status 74
        time.sleep(2.0)  # a first step may take LONGER
        progress.stepped(images_seen=16)
        for _ in range(6):
            progress.beat(STEP)
            time.sleep(0.3)
        progress.beat("the task `save`", long=True)
        time.sleep(2.0)
    time.sleep(1.7)  # closed: nothing is expected any more
    assert LONGER * 1.5 > 2.0
    assert not list(tmp_path.iterdir())


def test_notes_of_others_are_read_and_an_orderly_end_is_told(tmp_path: Path) -> None:
    """Two watchdogs on one store, in threads of this process: nobody is blamed for having finished first."""
    store, first, second = dist.HashStore(), Progress(), Progress()
    shared = {"world": 2, "stall_seconds": 8.0, "folder": tmp_path, "store": store, "prefix": "x"}
    with Watchdog(first, rank=0, **shared) as watchdog:  # type: ignore[arg-type]
        with Watchdog(second, rank=1, **shared):  # type: ignore[arg-type]
            time.sleep(0.5)
            assert 0 < watchdog.take_trip_seconds() < 4
        assert b'"ended": true' in store.get("stalls/x/1")
        first.stepped(images_seen=16)
        first.beat(STEP)
        time.sleep(4.5)  # quiet for so long that rank 1's last note is read
        assert watchdog._others[1][0] is not None
        assert watchdog._others[1][0].ended
        first.beat(STEP)


def test_time_in_which_a_process_was_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = AwakeClock(most_seconds=1.0)
    for now in (100.5, 101.0, 4000.0, 4000.5):  # noqa: B007
        clock.tick()
    assert clock.seconds == pytest.approx(2.5)
