"""`framework doctor`: is this machine, or the cluster it is started on, ready to train?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from framework.doctor.command import run
from framework.utils.flags import LocalPath
from framework.utils.ranges import Range


def doctor(
    *,
    out: LocalPath = Path("runs/any"),
    data: str | None = None,
    tracking: str | None = None,
    port: Annotated[int, Range(least=1, most=65_535)] = 29500,
    timeout_seconds: Annotated[float, Range(above=0, most=1e7)] = 60.0,
    quick: bool = False,
    json: bool = False,
) -> int:
    """Examine software, processors, memory, GPUs, shared memory, the run folder, the network and MLflow.

    Started by a launcher (torchrun ... -m framework.doctor), it examines the whole cluster: whether every process
    reaches the others, all-reduce, clocks, and that all machines hold the same code and data and share the run folder.
    Each line says ok, warn or fail, and what to do. Exit status 1 if training will not work.

    Args:
        out: What the training command's --out will be; it need not exist yet.
        data: What --data will be, to see that it can be opened and is the same everywhere.
        tracking: What --tracking will be: a URI, default or none. MLflow's variables count as in training.
        port: Where processes meet (torchrun's and accelerate's default).
        timeout_seconds: How long processes wait for one another.
        quick: Leave out the two processes that all-reduce on this machine.
        json: Print the report as JSON.
    """
    return run(
        out=out, data=data, tracking=tracking, port=port, timeout_seconds=timeout_seconds, json=json, quick=quick
    )
