"""Several nodes, each with its own network: one run, disjoint samples, resumed, and ended when a node is lost."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framework.checkpoint import list_checkpoints
from framework.data.consumed import consumed
from tests.helpers.cluster import ClusterLaunch, accelerate, torchrun
from tests.helpers.launch import SMOOTH, TINY, largest_difference, run, unequal
from tests.helpers.nodes import Nodes, missing, nodes

pytestmark = [
    pytest.mark.faults,
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="6 minutes long; set FRAMEWORK_TEST_NODES=1"),
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
]
FLAGS = ("--images", "640", "--log-every-images", "160", "--tracking", "none")


@pytest.fixture(scope="module")
def two() -> Iterator[Nodes]:
    with nodes(2) as made:
        yield made


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes on one machine, without interruption."""
    folder = tmp_path_factory.mktemp("straight")
    run(TINY, *FLAGS, "--save-every-images", "320", "--out", str(folder / "run"), log=folder / "log")
    return folder / "run"


@pytest.mark.parametrize("launcher", [accelerate, torchrun])
def test_two_nodes_train_are_killed_and_continue_to_the_same_bits(
    two: Nodes, straight: Path, tmp_path: Path, launcher: Callable[[Nodes, int], list[str]]
) -> None:
    out = tmp_path / "run"
    program = [str(TINY), *FLAGS, "--save-every-images", "320", "--record-keys", "--out", str(out)]
    with ClusterLaunch(two, launcher, program, folder=tmp_path / "first") as first:
        first.until("checkpoint at 320 images")
        for node in (0, 1):
            first.kill(node)
    assert list_checkpoints(out / "checkpoints") == [320], "killed too late to show anything"
    with ClusterLaunch(two, launcher, program, folder=tmp_path / "second") as second:
        assert second.wait() == [0, 0], second.text()
        assert "resumed at 320 images" in second.text()
    differing = unequal(straight / "checkpoints" / "640", out / "checkpoints" / "640")
    print(f"{launcher.__name__}, 2 nodes, killed and resumed, against 2 processes on one machine: {differing} differ")
    assert differing == []
    assert no_sample_twice(out / "keys", world=2) == set()


def no_sample_twice(keys: Path, *, world: int) -> set[int]:
    """Positions that two nodes consumed; also checks that none was left out."""
    by_rank = [
        {int(line.split()[0]) for line in (keys / f"rank-{rank:05d}.txt").read_text().splitlines()}
        for rank in range(world)
    ]
    assert sorted(consumed(keys)) == list(range(max(map(max, by_rank)) + 1))
    shared = {p for i, one in enumerate(by_rank) for other in by_rank[i + 1 :] for p in one & other}
    print(f"{world} nodes: positions consumed {[len(one) for one in by_rank]}, by two of them: {shared or 'none'}")
    return shared


def test_three_nodes_play_the_game_of_one_process(tiny_data: Path, tmp_path: Path) -> None:
    flags = ["--data", str(tiny_data), "--tracking", "none", "--record-keys", "--images", "320"]
    run(SMOOTH, *flags, "--out", str(tmp_path / "one"), world=1, log=tmp_path / "one.log")
    program = [str(SMOOTH), *flags, "--out", str(tmp_path / "three")]
    with nodes(3) as three, ClusterLaunch(three, accelerate, program, folder=tmp_path / "logs") as launch:
        assert launch.wait() == [0, 0, 0], launch.text()
        assert "3 process(es)" in launch.text()
    difference = largest_difference(*(tmp_path / name / "checkpoints/320" for name in ("one", "three")))
    print(f"3 nodes against 1 process, 20 steps: largest difference of any tensor {difference:.1e}")
    assert difference <= 1e-5
    assert no_sample_twice(tmp_path / "three/keys", world=3) == set()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_node_ends_the_other_with_a_sentence(two: Nodes, tmp_path: Path, victim: int) -> None:
    """Also while a checkpoint is being written together, which here is most of the time."""
    program = [str(TINY), *FLAGS[2:], "--images", "100k", "--save-every-images", "32", "--out", str(tmp_path / "run")]
    with ClusterLaunch(two, torchrun, program, folder=tmp_path) as launch:
        launch.until("160/100,000")
        launch.kill(victim)
        begun = time.monotonic()
        status = launch.processes[1 - victim].wait(90)
        seconds = time.monotonic() - begun
        print(f"node {victim} killed: the other ended after {seconds:.1f} s with status {status}")
        assert status != 0
        assert "another process of this launch ended" in launch.text(1 - victim)
    assert list_checkpoints(tmp_path / "run/checkpoints"), "earlier checkpoints are still there"


@pytest.mark.parametrize("told", [0, 1])
def test_one_node_told_to_stop_stops_the_other(two: Nodes, tmp_path: Path, told: int) -> None:
    """As when a scheduler takes one machine away. Torchrun alone would wait five minutes for the launcher that left."""
    out = tmp_path / "run"
    program = [str(TINY), *FLAGS[2:], "--images", "100k", "--save-every-images", "100k", "--out", str(out)]
    with ClusterLaunch(two, torchrun, program, folder=tmp_path) as launch:
        launch.until("160/100,000")
        launch.processes[told].send_signal(signal.SIGTERM)
        begun = time.monotonic()
        status = launch.wait(timeout_seconds=60)
        print(f"SIGTERM to node {told}: both ended after {time.monotonic() - begun:.1f} s with status {status}")
    assert (out / "PREEMPTED").exists()
    (saved,) = list_checkpoints(out / "checkpoints")
    assert re.search(rf"stopped at {saved} images; the same command resumes", launch.text())


def test_a_node_that_cannot_be_reached_is_named_by_interface(two: Nodes, tmp_path: Path) -> None:
    """Gloo told to use the loopback interface is what it would choose by itself where a name leads to 127.0.0.1."""
    program = [str(TINY), *FLAGS, "--out", str(tmp_path / "run")]
    wrong = {node: {"GLOO_SOCKET_IFNAME": "lo"} for node in (0, 1)}
    with ClusterLaunch(two, torchrun, program, folder=tmp_path, extra=wrong) as launch:
        deadline = time.monotonic() + 120
        while "no connection to the other processes" not in launch.text() + launch.text(1):
            assert time.monotonic() < deadline, launch.text() + launch.text(1)
            time.sleep(0.2)
        assert "tried through lo" in launch.text() + launch.text(1)
