"""A process that is slower than the others, and one that is farther away: named by rank while training goes on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers.cluster import ClusterLaunch, torchrun
from tests.helpers.launch import SMOOTH, Launch
from tests.helpers.nodes import missing, nodes

pytestmark = [pytest.mark.distributed, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]
FLAGS = ("--images", "1M", "--save-every-images", "1M", "--sample-every-images", "1M", "--tracking", "none")
BUSY = "import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
PROGRAMS = 4


@contextlib.contextmanager
def shared_core(pid: int, *, programs: int) -> Iterator[None]:
    """The process has one core, and shares it with busy programs."""
    core = max(os.sched_getaffinity(0))
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, {core})
    busy = [subprocess.Popen([sys.executable, "-c", BUSY.format(core=core)]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in busy:
            program.kill()
            program.wait()


def slowdowns(out: Path) -> list[tuple[float, int]]:
    """The largest slowdown and its rank, by report."""
    journal = out / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]  # the last one may be half written
    values = [record["values"] for record in records if record["kind"] == "metrics"]
    return [
        (one["perf/compute_slowdown"], int(one["perf/compute_slowdown_rank"]))
        for one in values
        if "perf/compute_slowdown" in one
    ]


@pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="1 minute; set FRAMEWORK_TEST_NODES=1")
def test_a_slowed_process_is_named_and_a_balanced_run_is_left_in_peace(tiny_data: Path, tmp_path: Path) -> None:
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    if load > 2 * cores:
        pytest.skip(f"{load:.0f} programs want {cores} cores: every process is slowed, so none stands out")
    out = tmp_path / "run"
    flags = (*FLAGS, "--log-every-images", "160", "--data", str(tiny_data), "--out", str(out))
    with Launch(SMOOTH, *flags, log=tmp_path / "log") as launch:
        launch.until(lambda: len(slowdowns(out)) >= 2)
        assert "warning: rank" not in launch.text(), "balanced"
        balanced = slowdowns(out)
        (victim,) = [pid for pid in launch.workers() if psutil.Process(pid).environ()["RANK"] == "1"]
        with shared_core(victim, programs=PROGRAMS):
            begun = time.monotonic()
            launch.until(lambda: "warning: rank" in launch.text())
            seconds = time.monotonic() - begun
            (warning,) = [line for line in launch.text().splitlines() if line.startswith("warning")]
        found = slowdowns(out)[len(balanced) :]
    print(f"balanced, largest slowdown by report: {[f'{value:.2f}' for value, _ in balanced]}")
    print(f"rank 1 on a core with {PROGRAMS} busy programs: {[f'{value:.1f}x rank {rank}' for value, rank in found]}")
    print(f"named after {seconds:.0f} s: {warning}")
    assert f"rank 1 ({os.uname().nodename}) computes " in warning
    assert found[-1][1] == 1


@pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="1 minute; set FRAMEWORK_TEST_NODES=1")
@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_a_node_that_is_far_away_is_named(tiny_data: Path, tmp_path: Path) -> None:
    where = ["--data", str(tiny_data), "--out", str(tmp_path / "run")]
    program = [str(SMOOTH), *FLAGS, "--log-every-images", "96", *where]
    with nodes(3) as three:
        three.delay(2, 0)
        with ClusterLaunch(three, torchrun, program, folder=tmp_path / "logs") as launch:
            launch.until("480/1,000,000")
            assert "is far away" not in launch.text()
            three.delay(2, 20)
            begun = time.monotonic()
            launch.until("is far away")
            seconds = time.monotonic() - begun
            (warning,) = [line for line in launch.text().splitlines() if "is far away" in line]
    print(f"20 ms more each way to node 2, named after {seconds:.0f} s: {warning}")
    assert warning.startswith("warning: rank 2 ")
