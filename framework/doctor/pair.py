"""A measurement by two processes on this machine that all-reduce, as those of any launch do.

`python -m framework.doctor.pair RANK WORLD FILE BACKEND` is one of them; it prints its measurement as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from framework.doctor.all_reduce import AllReduce, judge_all_reduce, measure
from framework.doctor.finding import Finding, fail, warn

TIMEOUT_SECONDS = 120.0
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class PairError(Exception):
    """The processes did not finish their all-reduces; the message gives the reason."""


def all_reduce_here() -> Iterator[Finding]:
    """Yield the findings on gloo between two processes, and on NCCL between the first two GPUs if there are GPUs."""
    import torch

    yield over_gloo()
    if torch.cuda.is_available() and torch.distributed.is_nccl_available():
        world = min(2, torch.cuda.device_count())
        try:
            yield judge_all_reduce(run(backend="nccl", world=world))
        except PairError as error:
            yield fail("all-reduce, nccl", str(error), "NCCL_DEBUG=INFO says where it stops; try NCCL_P2P_DISABLE=1")


def over_gloo(*, environment: dict[str, str] | None = None) -> Finding:
    """Return the finding on gloo, which training uses on CPUs and, next to NCCL, for stop votes.

    Args:
        environment: the variables of the two processes; default: this one's.
    """
    environment = dict(os.environ) if environment is None else environment
    try:
        return judge_all_reduce(run(backend="gloo", world=2, environment=environment))
    except PairError as error:
        why = str(error)
    with contextlib.suppress(PairError):
        run(backend="gloo", world=2, environment=environment | {"GLOO_SOCKET_IFNAME": "lo"})
        advice = (
            "it works over the loopback interface: this machine's name (or GLOO_SOCKET_IFNAME) leads nowhere; export "
            "GLOO_SOCKET_IFNAME=lo for one machine, or name an interface that `ip address` shows"
        )
        return warn("all-reduce, gloo", why, advice)
    return fail("all-reduce, gloo", why, "only one process can train here: python <recipe> without a launcher")


def run(
    *, backend: str, world: int, environment: dict[str, str] | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> AllReduce:
    """Start the processes and return rank 0's measurement.

    Args:
        backend: gloo or nccl.
        world: the number of processes.
        environment: their variables; default: this process's. Those of launchers are removed.
        timeout_seconds: the time that they may take.

    Raises:
        PairError: a process failed, or they did not end in time.
    """
    base = dict(os.environ) if environment is None else environment
    clean = {name: value for name, value in base.items() if name not in LAUNCHER_VARIABLES}
    clean["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        # Start them.
        logs = [Path(folder, f"{rank}.log") for rank in range(world)]
        processes = []
        for rank, log in enumerate(logs):
            program = [sys.executable, "-m", "framework.doctor.pair", str(rank), str(world)]
            with log.open("w") as output:
                processes.append(
                    subprocess.Popen(
                        [*program, str(Path(folder, "store")), backend],
                        stdout=subprocess.PIPE,
                        stderr=output,
                        text=True,
                        env=clean,
                    )
                )
        # Wait for them; none may stay behind.
        try:
            answers = [process.communicate(timeout=timeout_seconds)[0] for process in processes]
        except subprocess.TimeoutExpired:
            raise PairError(f"{world} processes did not meet within {timeout_seconds:.0f} s") from None
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(process.returncode for process in processes):
            raise PairError(last_error([log.read_text(errors="replace") for log in logs]))
    return AllReduce(**json.loads(answers[0].strip().splitlines()[-1]))


def last_error(logs: list[str]) -> str:
    """Return the last exception in the first log that has one."""
    for log in logs:
        for line in reversed(log.strip().splitlines()):
            if "Error" in line.split(":")[0]:
                return line[:300]
    return "a process ended without saying why"


def main(rank: int, world: int, store: str, backend: str) -> None:
    """Measure as one of the processes, and print the result."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend,
        store=dist.FileStore(store, world),
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=TIMEOUT_SECONDS / 2),
        device_id=device if device.type == "cuda" else None,
    )
    measured = measure(device)
    dist.destroy_process_group()
    print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
