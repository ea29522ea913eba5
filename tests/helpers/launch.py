"""Real `accelerate launch` runs, as a user starts them, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor

from framework.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
SMOOTH = ROOT / "tests" / "recipes" / "smooth.py"
TINY = ROOT / "tests" / "recipes" / "tiny_sagan.py"


def command(recipe: Path, *flags: str, world: int) -> list[str]:
    """The command line of a launch with `world` CPU processes."""
    scripts = Path(sys.executable).parent
    if world == 1:
        return [sys.executable, str(recipe), *flags]
    config = ROOT / "launch" / "accelerate" / "cpu_2.yaml"
    launcher = [sys.executable, str(scripts / "accelerate"), "launch", "--config_file", str(config)]
    return [*launcher, "--num_processes", str(world), str(recipe), *flags]


def environment() -> dict[str, str]:
    """This process's environment without what an outer launcher or a user of MLflow may have set."""
    outer = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {k: v for k, v in os.environ.items() if k not in outer and not k.startswith("MLFLOW_")}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    """A port of this machine that nobody has; another run of the tests may be going on beside this one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Launch:
    """A launch under way, in its own process group so that nothing outlives a test."""

    def __init__(
        self, recipe: Path, *flags: str, world: int = 2, log: Path, extra: dict[str, str] | None = None
    ) -> None:
        self.log = log
        self._output = log.open("w")
        self.process = subprocess.Popen(
            command(recipe, *flags, world=world),
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=environment() | (extra or {}),
            start_new_session=True,
        )

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self._output.close()

    def wait(self, *, timeout_seconds: float = 240.0) -> int:
        """The exit status; kills everything when it takes too long."""
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {timeout_seconds} s; output:\n{self.text()}") from None

    def until(self, condition: Callable[[], bool], *, timeout_seconds: float = 180.0) -> None:
        """Wait for something to become true while the launch runs."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"it did not come to that; output:\n{self.text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL to the launcher and all its descendants (workers have sessions of their own)."""
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended already
            launcher = psutil.Process(self.process.pid)
            family = [*launcher.children(recursive=True), launcher]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)
        self.process.wait()

    def workers(self) -> list[int]:
        """Process ids of the training processes."""
        return [child.pid for child in psutil.Process(self.process.pid).children() if "--out" in child.cmdline()]

    def text(self) -> str:
        """Everything printed so far."""
        return self.log.read_text()


def run(recipe: Path, *flags: str, world: int = 2, log: Path, extra: dict[str, str] | None = None) -> str:
    """A launch to its successful end; its output."""
    with Launch(recipe, *flags, world=world, log=log, extra=extra) as launch:
        status = launch.wait()
        assert status == 0, launch.text()
        return launch.text()


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by key."""
    with Checkpoint.open(checkpoint) as opened:
        return {key: opened.full(key).clone() for key in opened.keys()}  # noqa: SIM118


def largest_difference(a: Path, b: Path) -> float:
    """Of any number of any tensor in two checkpoints."""
    left, right = tensors(a), tensors(b)
    assert left.keys() == right.keys()
    return max(float((left[key].double() - right[key].double()).abs().max()) for key in left)


def unequal(a: Path, b: Path) -> list[str]:
    """Keys whose tensors are not the same bits."""
    left, right = tensors(a), tensors(b)
    assert left.keys() == right.keys()
    return [key for key in left if not torch.equal(left[key], right[key])]
