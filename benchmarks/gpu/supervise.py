"""An item in a process of its own, with a budget of seconds; a crash or a hang costs that item alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.gpu.findings import is_failure, read_findings

State = Literal["ok", "skipped", "failed", "crashed", "over budget"]
GOOD: tuple[State, ...] = ("ok", "skipped")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an item went."""

    item: str
    state: State
    status: int
    """Exit status of its process; negative: the signal that ended it."""
    seconds: float
    budget_seconds: float
    findings: int
    failures: int


def supervise(
    item: str, command: Sequence[str], *, out: Path, budget_seconds: float, grace_seconds: float = 15.0
) -> Ended:
    """Run `command`, which writes the findings of `item` into `out`; its output goes to `out/<item>.log`.

    Args:
        budget_seconds: after which it should have ended by itself.
        grace_seconds: after which, further on, it is killed with every process it started.
    """
    (out / f"{item}.jsonl").unlink(missing_ok=True)  # an item that dies before its first finding has none
    began, late = time.monotonic(), False
    with (out / f"{item}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(budget_seconds + grace_seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _kill(process)
    seconds, found = time.monotonic() - began, read_findings(out, item=item)
    return Ended(
        item=item,
        state="over budget" if late else _state(process.returncode, found),
        status=process.returncode,
        seconds=round(seconds, 1),
        budget_seconds=budget_seconds,
        findings=len(found),
        failures=sum(map(is_failure, found)),
    )


def _state(status: int, found: list[dict[str, object]]) -> State:
    if any(map(is_failure, found)):
        return "failed"
    if status != 0 or not found:
        return "crashed"
    return "skipped" if all("skipped" in finding for finding in found) else "ok"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process, those it started, and theirs, also where they have left its group."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):  # the group has ended
        os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    psutil.wait_procs(family, timeout=10)  # the next item finds the GPU's memory free
