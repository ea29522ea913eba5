"""Nothing comes on any more: a frozen process, a source that hangs, a cut cable. Found, named, ended, continued.

The figures that these tests print stand in launch/README.md.
"""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from framework.data.pack import pack
from framework.runtime.watchdog import STALLED
from tests.helpers.cluster import ClusterLaunch, torchrun
from tests.helpers.launch import ROOT, SMOOTH, Launch, environment, run, unequal
from tests.helpers.nodes import Nodes, missing, nodes

pytestmark = [pytest.mark.distributed, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]
LONG = [
    pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="2 minutes; set FRAMEWORK_TEST_NODES=1"),
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
]
STALL_SECONDS = 8
# The watchdog looks every 0.2 s, waits for the rest of a step, and a loaded machine takes its time: far below this.
MARGIN_SECONDS = 15
IMAGES, SAVE = 1280, 160
FLAGS = ("--images", str(IMAGES), "--save-every-images", str(SAVE), "--log-every-images", "160", "--tracking", "none")
WATCHED = (*FLAGS, "--stall-seconds", str(STALL_SECONDS))


class Restarting(Launch):
    """Two processes under `accelerate launch`, which may start them again once."""

    def __init__(self, *flags: str, log: Path) -> None:
        self.log, self._output = log, log.open("w")
        config = ["--config_file", str(ROOT / "launch/accelerate/cpu_2.yaml"), "--max_restarts", "1"]
        launcher = [sys.executable, str(Path(sys.executable).parent / "accelerate"), "launch", *config]
        self.process = subprocess.Popen(
            [*launcher, "--monitor_interval", "0.5", str(SMOOTH), *flags],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )

    def worker(self, rank: int) -> psutil.Process:
        """The training process of a rank."""
        (one,) = [p for p in map(psutil.Process, self.workers()) if p.environ()["RANK"] == str(rank)]
        return one

    def descendants(self) -> list[psutil.Process]:
        """Everything that runs for this launch."""
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vendored images at 8 x 8, 100 to a shard."""
    out = tmp_path_factory.mktemp("data") / "fashion8"
    source = ROOT / "recipes/data/fashion_mnist"
    pack(source, out, resolution=8, resize_filter="box", shard_samples=100, progress=False)
    return out


@pytest.fixture(scope="module")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes without disturbance."""
    folder = tmp_path_factory.mktemp("straight")
    run(SMOOTH, *FLAGS, "--data", str(shards), "--out", str(folder / "run"), log=folder / "log")
    return folder / "run"


def stalled_within(launch: Launch, *, since: float) -> float:
    """Wait for the verdict; seconds since the fault."""
    launch.until(lambda: "stalled at" in launch.text(), timeout_seconds=STALL_SECONDS + MARGIN_SECONDS)
    return time.monotonic() - since


def continued_exactly(launch: Launch, out: Path, straight: Path, *, at: int) -> int:
    """The launcher starts again, and the run ends as if nothing had been; returns the images that were lost."""
    assert launch.wait() == 0, launch.text()
    assert f"exitcode: {STALLED}" in launch.text()
    found = re.findall(r"resumed at ([\d.,k]+) images", launch.text())
    assert len(found) == 1, launch.text()
    resumed = found[0].replace(",", "")
    assert unequal(straight / "checkpoints" / str(IMAGES), out / "checkpoints" / str(IMAGES)) == []
    return at - round(float(resumed.rstrip("k")) * (1000 if "k" in resumed else 1))


def clock_at_stall(text: str) -> int:
    return int(re.findall(r"stalled at ([\d,]+) images", text)[0].replace(",", ""))


def test_a_frozen_process_is_named_and_the_run_continues_to_the_same_bits(
    shards: Path, straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with Restarting(*WATCHED, "--data", str(shards), "--out", str(out), log=tmp_path / "log") as launch:
        launch.until(lambda: "checkpoint at 160" in launch.text())
        victim = launch.worker(1)
        before = launch.descendants()
        victim.suspend()  # SIGSTOP
        seconds = stalled_within(launch, since=time.monotonic())
        launch.until(lambda: "resumed at" in launch.text(), timeout_seconds=120)
        text = launch.text()
        assert f"rank 1 ({os.uname().nodename}, process {victim.pid}) has given no sign of life" in text
        assert "Waiting for the others: rank 0 (" in text
        assert not [process for process in before if process.is_running()], "nothing of the first start is left"
        lost = continued_exactly(launch, out, straight, at=clock_at_stall(text))
    assert re.search(r"thread MainThread:\n.*loop.py", (out / "stalls/rank-00000.txt").read_text(), re.DOTALL)
    print(f"SIGSTOP to rank 1, --stall-seconds {STALL_SECONDS}: named after {seconds:.1f} s, {lost} images repeated")


class HangingServer(http.server.ThreadingHTTPServer):
    """Serves a folder; while `hanging`, shards are accepted and never answered."""

    daemon_threads = True

    def __init__(self, root: Path, *, shards_before: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.shards_before, self.served = root, shards_before, set[str]()
        self.heal = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are part of the test."""


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: HangingServer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def translate_path(self, path: str) -> str:
        return str(self.server.root / path.lstrip("/"))

    def do_GET(self) -> None:
        served = self.server.served
        if self.path.endswith(".tar") and self.path not in served and len(served) >= self.server.shards_before:
            self.server.heal.wait(120)
        if self.path.endswith(".tar"):
            served.add(self.path)
        super().do_GET()


@pytest.fixture
def server(shards: Path) -> Iterator[HangingServer]:
    # Blocks of 500 positions need 5 or 6 of these shards each; two are read to show real images before training.
    with HangingServer(shards, shards_before=11) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.heal.set()
        made.shutdown()
        thread.join()


def test_a_source_that_hangs_is_named_with_its_shards(server: HangingServer, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    remote = ("--data", server.url, "--cache-folder", str(tmp_path / "cache"), "--out", str(out))
    with Restarting(*WATCHED, *remote, log=tmp_path / "log") as launch:
        launch.until(lambda: "960/1,280" in launch.text())
        before = launch.descendants()
        launch.until(lambda: "stalled at" in launch.text(), timeout_seconds=60)
        server.heal.set()
        launch.until(lambda: "resumed at" in launch.text(), timeout_seconds=120)
        (sentence, *_) = [line for line in launch.text().splitlines() if "stalled at" in line]
        assert re.search(
            r"rank \d \(\S+, process \d+\) has been waiting for data for \d+ s: the batch at [\d,]+ images, from "
            r"\S+\.tar.* of " + re.escape(server.url),
            sentence,
        ), sentence
        assert not [process for process in before if process.is_running()], "loading workers are gone too"
        at = clock_at_stall(sentence)
        lost = continued_exactly(launch, out, straight, at=at)
    (quiet,) = re.findall(r"no progress for (\d+) s", sentence)
    print(
        f"a server that stops answering, --stall-seconds {STALL_SECONDS}: named after {quiet} s, {lost} images repeated"
    )
    assert int(quiet) <= STALL_SECONDS + MARGIN_SECONDS


@pytest.fixture
def two() -> Iterator[Nodes]:
    with nodes(2) as made:
        yield made


@pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="2 minutes; set FRAMEWORK_TEST_NODES=1")
@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
class TestNodes:
    def test_a_cut_cable_is_found_from_both_ends_and_the_run_continues(
        self, shards: Path, straight: Path, two: Nodes, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        program = [str(SMOOTH), *WATCHED, "--data", str(shards), "--out", str(out)]
        with ClusterLaunch(two, torchrun, program, folder=tmp_path / "first") as first:
            first.until("checkpoint at 160")
            two.cut(1)
            begun = time.monotonic()
            deadline = begun + STALL_SECONDS + MARGIN_SECONDS
            while not all("stalled at" in first.text(node) for node in (0, 1)):
                assert time.monotonic() < deadline, first.text() + first.text(1)
                time.sleep(0.1)
            seconds = time.monotonic() - begun
            statuses = first.wait(timeout_seconds=120)
            assert 0 not in statuses
            assert "rank 1 (" in first.text()
            assert "has given no sign of life" in first.text()
            assert re.search(rf"the store of this launch at {two.address(0)}:\d+ .* has not answered", first.text(1))
        at = clock_at_stall(first.text())
        print(f"cable cut, --stall-seconds {STALL_SECONDS}: both ends ended after {seconds:.1f} s at {at} images")
        two.join(1)
        with ClusterLaunch(two, torchrun, program, folder=tmp_path / "second") as second:
            assert second.wait() == [0, 0], second.text()
            assert "resumed at" in second.text()
        assert unequal(straight / "checkpoints" / str(IMAGES), out / "checkpoints" / str(IMAGES)) == []

    def test_a_slow_cable_is_no_stall(self, shards: Path, two: Nodes, tmp_path: Path) -> None:
        two.delay(1, 0)
        images = ["--images", "640", "--save-every-images", "1k", "--log-every-images", "160", "--tracking", "none"]
        where = ["--data", str(shards), "--out", str(tmp_path / "run"), "--stall-seconds", str(STALL_SECONDS)]
        with ClusterLaunch(two, torchrun, [str(SMOOTH), *images, *where], folder=tmp_path) as launch:
            launch.until("480/640")
            two.delay(1, 20)
            assert launch.wait() == [0, 0], launch.text()
            text = launch.text()
        speeds = [float(speed) for speed in re.findall(r"([\d,.]+) img/s", text)]
        print(f"20 ms more each way: {speeds[-2]:.0f} -> {speeds[-1]:.0f} images per second, no stall")
        assert speeds[-1] < speeds[-2]
        assert "stalled" not in text
