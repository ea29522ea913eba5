"""A node lost for good: the others go on without it, with the same batches and samples, and take it back later.

Nodes are network namespaces, each with the launcher script of `launch/torchrun/`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.checkpoint import Checkpoint, list_checkpoints
from framework.data.consumed import consumed, keys_hash
from framework.utils.quantities import format_count, parse_count
from tests.helpers.cluster import ClusterLaunch, elastic
from tests.helpers.launch import ROOT, environment, largest_difference, run
from tests.helpers.nodes import Nodes, missing, nodes

pytestmark = [
    pytest.mark.faults,
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="4 minutes long; set FRAMEWORK_TEST_NODES=1"),
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
]
UNNORMALISED, PACED_SMOOTH = (ROOT / f"tests/recipes/{name}.py" for name in ("unnormalised", "paced_smooth"))
BATCH, SAVE_EVERY = 16, 160
PACE = {"FRAMEWORK_TEST_STEP_SECONDS": "0.04"}
RESUMED = r"resumed at ([\d,.k]+) images"
ROUNDING = 1e-5
"""Between worlds, fp32 players without kinks, some tens of steps: see docs/decisions/006-worlds-and-rounding.md."""


@pytest.fixture
def two() -> Iterator[Nodes]:
    with nodes(2) as made:
        yield made


def flags(data: Path, out: Path, *, images_seen: int) -> list[str]:
    where = ["--data", str(data), "--out", str(out), "--record-keys", "--tracking", "none", "--keep-last", "100"]
    every = ["--save-every-images", str(SAVE_EVERY), "--log-every-images", str(BATCH)]
    return [*where, "--images", str(images_seen), *every]


def clock(pattern: str, text: str) -> int:
    """The count that the pattern's group found last."""
    return parse_count(re.findall(pattern, text)[-1].replace(",", ""))


def compare(expected: Path, found: Path, *, images_seen: int) -> float:
    """Largest difference of any tensor of the final checkpoints; also that the same samples were consumed in order."""
    audits = [{p: k for p, k in consumed(out / "keys").items() if p < images_seen} for out in (expected, found)]
    print(
        f"samples consumed, by position: {len(audits[1])}, keys {keys_hash(audits[0])[:16]} {keys_hash(audits[1])[:16]}"
    )
    assert audits[0] == audits[1]
    assert sorted(audits[1]) == list(range(images_seen))
    return largest_difference(*(out / "checkpoints" / str(images_seen) for out in (expected, found)))


def test_a_lost_node_is_done_without_and_taken_back(two: Nodes, tiny_data: Path, tmp_path: Path) -> None:
    images = 9_600
    straight, out = tmp_path / "straight", tmp_path / "run"
    run(UNNORMALISED, *flags(tiny_data, straight, images_seen=images), log=tmp_path / "straight.log")
    program = [str(UNNORMALISED), *flags(tiny_data, out, images_seen=images)]
    everywhere = dict.fromkeys((0, 1), PACE)
    with ClusterLaunch(two, elastic, program, folder=tmp_path / "logs", extra=everywhere) as launch:
        launch.until("720/9,600")
        launch.kill(1)
        two.cut(1)
        begun = time.monotonic()
        lost_at = clock(r"([\d,]+)/[\d,]+ images", launch.text())
        launch.until("resumed at", without=1)
        seconds, resumed = time.monotonic() - begun, clock(RESUMED, launch.text())
        alone = (
            "1 process(es) instead of 2: global batches of 16 images in 2 micro-batch(es), so that each process holds"
        )
        launch.until(f"{alone} at most 8 at once (8 before)", without=1)
        print(f"node 1 lost at {lost_at} images: node 0 goes on alone after {seconds:.1f} s from {resumed}")
        assert 0 <= lost_at - resumed < 2 * SAVE_EVERY, "more was lost than since the last checkpoint"
        launch.until(f"{resumed + 2 * SAVE_EVERY:,}/", without=1)
        two.join(1)
        begun = time.monotonic()
        launch.start_again(1)
        launch.until("resumed at", times=2)
        seconds, again = time.monotonic() - begun, clock(RESUMED, launch.text())
        print(f"node 1 back: both train after {seconds:.1f} s from {again}; nothing was lost")
        assert f"stopped at {format_count(again)} images" in launch.text(), "the one process saved before it made room"
        assert launch.wait(timeout_seconds=400) == [0, 0], launch.text()
        assert launch.text().count("2 process(es) on cpu") == 2
        assert launch.text().count("micro-batch(es)") == 1, "two nodes need no more micro-batches"
    difference = compare(straight, out, images_seen=images)
    print(f"2 -> 1 -> 2 nodes against 2 processes, {images // BATCH} steps: largest difference {difference:.1e}")
    assert difference <= ROUNDING
    with Checkpoint.open(out / "checkpoints" / str(images)) as last:
        assert last.record["cut"] == {"world": 2, "micro_batches": 1}


def test_a_node_that_does_not_say_goodbye(two: Nodes, tiny_data: Path, tmp_path: Path) -> None:
    """Its power goes: no connection is closed, so nothing but the watchdog (`--stall-seconds`) notices."""
    images, stall_seconds = 1_600, 15
    straight, out = tmp_path / "straight", tmp_path / "run"
    run(UNNORMALISED, *flags(tiny_data, straight, images_seen=images), log=tmp_path / "straight.log")
    program = [str(UNNORMALISED), *flags(tiny_data, out, images_seen=images), "--stall-seconds", str(stall_seconds)]
    slow = {"FRAMEWORK_TEST_STEP_SECONDS": "0.1"}
    with ClusterLaunch(two, elastic, program, folder=tmp_path / "logs", extra=dict.fromkeys((0, 1), slow)) as launch:
        launch.until("720/1,600")
        two.cut(1)
        begun = time.monotonic()
        launch.kill(1)
        launch.until("error: rank 0:", without=1)
        noticed = time.monotonic() - begun
        sentence = re.findall(r"error: (rank 0: .*)", launch.text())[0]
        launch.until("resumed at", without=1)
        seconds, resumed = time.monotonic() - begun, clock(RESUMED, launch.text())
        print(f"power gone: noticed after {noticed:.1f} s ({sentence}), goes on after {seconds:.1f} s from {resumed}")
        assert launch.processes[0].wait(200) == 0, launch.text()
    difference = compare(straight, out, images_seen=images)
    print(f"2 -> 1 nodes against 2 processes, {images // BATCH} steps: largest difference {difference:.1e}")
    assert difference <= ROUNDING


def test_batch_statistics_are_not_cut_to_save_memory(two: Nodes, tiny_data: Path, tmp_path: Path) -> None:
    """A batch norm normalises over a global micro-batch: the survivor takes the whole batch at once, and says so."""
    images = 480
    straight, out = tmp_path / "straight", tmp_path / "run"
    run(PACED_SMOOTH, *flags(tiny_data, straight, images_seen=images), log=tmp_path / "straight.log")
    program = [str(PACED_SMOOTH), *flags(tiny_data, out, images_seen=images)]
    slow = {"FRAMEWORK_TEST_STEP_SECONDS": "0.3"}
    with ClusterLaunch(two, elastic, program, folder=tmp_path / "logs", extra=dict.fromkeys((0, 1), slow)) as launch:
        launch.until("224/480")
        launch.kill(1)
        assert launch.processes[0].wait(200) == 0, launch.text()
        assert "resumed at 160 images" in launch.text()
        assert "up to 16 images at once instead of 8" in launch.text()
        assert "BatchNorm2d" in launch.text()
    difference = compare(straight, out, images_seen=images)
    print(f"2 -> 1 nodes with batch norm, {images // BATCH} steps: largest difference {difference:.1e}")
    assert difference <= ROUNDING


def test_without_the_node_that_the_others_meet_at_the_same_command_continues(
    two: Nodes, tiny_data: Path, tmp_path: Path
) -> None:
    """Node 0 keeps the list of who is there; the others end, and start anew with another first node."""
    images = 1_600
    straight, out = tmp_path / "straight", tmp_path / "run"
    run(UNNORMALISED, *flags(tiny_data, straight, images_seen=images), log=tmp_path / "straight.log")
    program = [str(UNNORMALISED), *flags(tiny_data, out, images_seen=images)]
    with ClusterLaunch(two, elastic, program, folder=tmp_path / "logs", extra=dict.fromkeys((0, 1), PACE)) as launch:
        launch.until("checkpoint at 480 images")
        launch.kill(0)
        begun = time.monotonic()
        status = launch.processes[1].wait(200)
        print(f"node 0 lost: the launcher of node 1 ended after {time.monotonic() - begun:.1f} s with status {status}")
        assert status not in (0, 75)
    saved = list_checkpoints(out / "checkpoints")[-1]
    alone = two.on(
        1, ["env", "PROCESSES_PER_NODE=1", f"PYTHON={sys.executable}", str(ROOT / "launch/torchrun/node.sh")]
    )
    done = subprocess.run([*alone, *program], capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"resumed at {format_count(saved)} images" in done.stdout
    difference = compare(straight, out, images_seen=images)
    print(f"continued on node 1 from {saved}: largest difference {difference:.1e}")
    assert difference <= ROUNDING
