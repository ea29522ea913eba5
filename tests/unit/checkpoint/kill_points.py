"""Run in a process of its own: saves that are killed with SIGKILL at every point of the write, one fork for each.

Usage: python kill_points.py ROOT. Prints one JSON line per kill: scenario, point, folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from framework.checkpoint import CheckpointError, Retention, TensorSlice, Writer


def slices(value: int, *, rank: int = 0, world: int = 1) -> list[TensorSlice]:
    """Two tensors in two files; with two ranks each holds half of them."""
    tensors = {"generator/weight/w": torch.full((6,), float(value)), "generator/ema/w": torch.arange(6.0) + value}
    size = 6 // world
    return [
        TensorSlice(key=key, start=rank * size, values=tensor[rank * size : (rank + 1) * size], shape=(2, 3))
        for key, tensor in tensors.items()
    ]


def save(
    folder: Path,
    images_seen: int,
    value: int,
    *,
    at: Callable[[str], None] = lambda point: None,
    rank: int = 0,
    world: int = 1,
    timeout_seconds: float = 60,
) -> None:
    """One save of one rank, whose content follows from `value`."""
    writer = Writer(
        folder,
        rank=rank,
        world=world,
        token=f"launch-{value}",
        retention=Retention(last=2),
        timeout_seconds=timeout_seconds,
        at=at,
    )
    writer.save(
        images_seen, slices(value, rank=rank, world=world), documents={"recipe.json": {}}, record={"value": value}
    )
    writer.close()


def killer(number: int) -> Callable[[str], None]:
    """Kill this process at the `number`-th point of the save."""
    passed = iter(range(number))

    def at(point: str) -> None:
        if next(passed, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def fork(task: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()
            code = 0
        except CheckpointError:
            code = 3
        finally:
            os._exit(code)
    return child


def run(task: Callable[[], None]) -> int:
    """Exit status of the task in a process of its own; negative: the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(task), 0)[1])


def one_rank(root: Path, scenario: str, existing: tuple[int, ...], images_seen: int) -> None:
    """Kill the save of `images_seen` at each of its points; every time with the same checkpoints there before."""

    def prepare(folder: Path) -> None:
        for count in existing:
            assert run(partial(save, folder, count, count)) == 0

    def note(point: str) -> None:
        with (root / "points").open("a") as file:
            file.write(point + "\n")

    root.mkdir()
    prepare(root / "count")
    assert run(partial(save, root / "count", images_seen, 7, at=note)) == 0
    for number, point in enumerate((root / "points").read_text().splitlines()):
        folder = root / f"{number:03d}"
        prepare(folder)
        assert run(partial(save, folder, images_seen, 7, at=killer(number))) == -signal.SIGKILL
        print(json.dumps({"scenario": scenario, "point": point, "folder": str(folder)}), flush=True)


def two_ranks(root: Path) -> None:
    """Rank 1 is killed; then rank 0 gives up in time, or commits what rank 1 had delivered."""
    root.mkdir()
    for number in range(100):
        folder = root / f"{number:03d}"
        assert run(partial(save, folder, 100, 100)) == 0
        second = fork(partial(save, folder, 200, 7, at=killer(number), rank=1, world=2))
        ended = 0
        while not ended and not list(folder.glob(".200-*/part-00001.json")):
            ended, status = os.waitpid(second, os.WNOHANG)
            time.sleep(0.005)
        first = run(partial(save, folder, 200, 7, rank=0, world=2, timeout_seconds=0.2))
        if not ended:
            _, status = os.waitpid(second, 0)
        codes = {"rank0": first, "rank1": os.waitstatus_to_exitcode(status)}
        print(json.dumps({"scenario": "rank 1", "folder": str(folder)} | codes), flush=True)
        if codes["rank1"] == 0:
            return


if __name__ == "__main__":
    base = Path(sys.argv[1])
    base.mkdir(parents=True)
    one_rank(base / "fresh", "fresh", (50, 100), 200)
    one_rank(base / "replace", "replace", (100, 200), 200)
    one_rank(base / "back", "back", (100, 300), 200)
    two_ranks(base / "ranks")
