"""A worker killed with SIGKILL at random steps: the launcher starts the processes again, and the run ends as if not."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from benchmarks import kills as campaigns
from framework.checkpoint import list_checkpoints
from framework.data.consumed import consumed, keys_hash
from framework.utils.quantities import parse_count
from tests.helpers.launch import ROOT, TINY, Launch, environment, tensors, unequal

pytestmark = [pytest.mark.distributed, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]
BATCH, PATIENCE_SECONDS = 16, 600.0
NODE = {"PROCESSES_PER_NODE": "2", "PYTHON": sys.executable}


def flags(out: Path, *, steps: int, save_every: int) -> list[str]:
    every = ["--save-every-images", str(save_every * BATCH), "--log-every-images", "160", "--keep-last", "100"]
    return ["--images", str(steps * BATCH), *every, "--record-keys", "--tracking", "none", "--out", str(out)]


def accelerate(restarts: int) -> list[str]:
    config = ["--config_file", str(ROOT / "launch/accelerate/cpu_2.yaml"), "--max_restarts", str(restarts)]
    return [sys.executable, str(Path(sys.executable).parent / "accelerate"), "launch", *config]


def node_script(restarts: int) -> list[str]:
    return ["env", f"MAX_RESTARTS={restarts}", str(ROOT / "launch/torchrun/node.sh")]


class Restarting(Launch):
    """Two processes under a launcher that starts them again."""

    def __init__(self, command: list[str], *, log: Path) -> None:
        self.log, self._output = log, log.open("w")
        self.process = subprocess.Popen(
            command, stdout=self._output, stderr=subprocess.STDOUT, env=environment() | NODE, start_new_session=True
        )

    def worker(self, rank: int) -> psutil.Process:
        """The training process of a rank; loading workers are its children and have its variables too."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                parent, mine = process.parent(), process.environ()
                if mine.get("RANK") == str(rank) and parent is not None and "RANK" not in parent.environ():
                    found.append(process)
            except psutil.Error:  # it has just ended
                continue
        (one,) = found
        return one


def step_of(out: Path, rank: int) -> int:
    """The step for which the rank took its samples last; 0 before the first."""
    try:
        lines = (out / "keys" / f"rank-{rank:05d}.txt").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return int(lines[-1].split()[0]) // BATCH + 1 if lines else 0


def kill_at(launch: Restarting, out: Path, *, step: int, rank: int, starts: int) -> tuple[int, int, float]:
    """SIGKILL in that step; the step in which it came, the images it goes on from, and the seconds until it does."""
    launch.until(lambda: step_of(out, rank) >= step and resumptions(launch) >= starts, timeout_seconds=PATIENCE_SECONDS)
    launch.worker(rank).kill()
    begun, killed, newest = time.monotonic(), step_of(out, rank), list_checkpoints(out / "checkpoints")[-1]
    launch.until(lambda: resumptions(launch) > starts, timeout_seconds=PATIENCE_SECONDS)
    goes_on = parse_count(re.findall(r"resumed at ([\d,.k]+) images", launch.text())[-1].replace(",", ""))
    assert newest <= goes_on <= killed * BATCH, "the newest checkpoint was not the one it went on from"
    return killed, goes_on, time.monotonic() - begun


def resumptions(launch: Restarting) -> int:
    return launch.text().count("resumed at")


def killed_run(
    launcher: list[str], out: Path, *, steps: int, save_every: int, kills: int, seed: int, log: Path
) -> None:
    """Train with `kills` kills at random steps and print what each of them cost."""
    chance = random.Random(seed)
    chosen = sorted(chance.sample(range(2 * save_every, steps - 2), kills))
    with Restarting([*launcher, str(TINY), *flags(out, steps=steps, save_every=save_every)], log=log) as launch:
        for number, step in enumerate(chosen):
            rank = chance.randrange(2)
            killed, goes_on, seconds = kill_at(launch, out, step=step, rank=rank, starts=number)
            lost = killed - goes_on // BATCH
            print(
                f"rank {rank} killed in step {killed} (wanted: {step}): trains again after {seconds:.1f} s from the "
                f"checkpoint of step {goes_on // BATCH}, {lost} steps done twice"
            )
            assert lost <= 2 * save_every, "more than the save under way and one interval"
        assert launch.wait(timeout_seconds=PATIENCE_SECONDS) == 0, launch.text()
        assert resumptions(launch) == kills


def compare(expected: Path, found: Path, *, steps: int, kills: int) -> None:
    images = str(steps * BATCH)
    differing, count = unequal(expected / "checkpoints" / images, found / "checkpoints" / images), 0
    count = len(tensors(found / "checkpoints" / images))
    print(f"{kills} kills in {steps} steps against none: {count - len(differing)} of {count} tensors equal to the bit")
    assert differing == []
    keys = [consumed(folder / "keys") for folder in (expected, found)]
    assert {p: k for p, k in keys[0].items() if p < steps * BATCH} == {
        p: k for p, k in keys[1].items() if p < steps * BATCH
    }
    print(f"samples by position: {keys_hash(keys[0])[:16]} {keys_hash(keys[1])[:16]}")


@pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="1 minute long; set FRAMEWORK_TEST_NODES=1")
def test_two_kills(undisturbed: Path, tmp_path: Path) -> None:
    """The short version of the test below, under the other launcher."""
    killed_run(accelerate(2), tmp_path / "run", steps=100, save_every=20, kills=2, seed=1, log=tmp_path / "log")
    compare(undisturbed, tmp_path / "run", steps=100, kills=2)


@pytest.mark.timeout(2400)
@pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="4 minutes long; set FRAMEWORK_TEST_NODES=1")
def test_ten_kills(tmp_path: Path) -> None:
    steps, save_every = 200, 10
    log = tmp_path / "straight.log"
    with Launch(TINY, *flags(tmp_path / "straight", steps=steps, save_every=save_every), log=log) as straight:
        assert straight.wait(timeout_seconds=PATIENCE_SECONDS) == 0, straight.text()
    killed_run(
        node_script(10), tmp_path / "run", steps=steps, save_every=save_every, kills=10, seed=2, log=tmp_path / "log"
    )
    compare(tmp_path / "straight", tmp_path / "run", steps=steps, kills=10)


def test_a_short_campaign(tmp_path: Path) -> None:
    """What `python -m benchmarks.kills` does a hundred times: a random victim at a random moment."""
    console = Console(stderr=True)
    figures = campaigns.campaign(tmp_path, kills=3, per_course=3, worlds=(2,), seed=1, console=console)
    print(figures)
    assert figures["kills"] == 3
    assert figures["points_per_course"] > 0


def test_a_campaign_sees_a_changed_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is not blind."""
    monkeypatch.setattr(campaigns, "last_checkpoint", lambda out: tmp_path)
    monkeypatch.setattr(campaigns, "largest_difference", lambda a, b: 0.0)
    monkeypatch.setattr(campaigns, "unequal", lambda a, b: [])
    monkeypatch.setattr(campaigns, "consumed", lambda folder: {})
    found = {tmp_path / "a": {"loss/D": [(80, 1.0)]}, tmp_path / "b" / "run": {"loss/D": [(80, 1.0 + 1e-9)]}}
    monkeypatch.setattr(campaigns, "points", lambda out: found[out])
    game = campaigns.Game(recipe=TINY, data=tmp_path, worlds=(2,))
    course = campaigns.Course(folder=tmp_path / "b", game=game, seed=1, startup_seconds=1.0)
    undisturbed = campaigns.Undisturbed(outs={2: tmp_path / "a"}, bound=0.0, startup_seconds=1.0)
    with pytest.raises(AssertionError, match="other values"):
        campaigns.judged(course, undisturbed)
