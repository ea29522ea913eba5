"""What the comparison of copies before each save costs, beside the snapshot that the trainer waits for anyway.

    python -m benchmarks.drift_cost [--json]

Two gloo processes under data parallelism with a SAGAN of 22 million parameters. Each process reads all it holds (both
players' weights and moments, the average, buffers) once for the checksums, and copies its half of it for the snapshot.
Medians of `REPEATS` on the slower process; what counts is the ratio of two times of the same run.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.report import command_line
from framework.checkpoint.snapshot import Staging, take_snapshot
from framework.networks import sagan
from framework.recipe import Network
from framework.runtime.session import Session
from framework.train.drift import check_drift, replicated
from tests.helpers.play import small_recipe, start, steps
from tests.helpers.spawn import run_ranks

REPEATS = 7
WIDTH = 160


def measure() -> dict[str, Tensor]:
    """Seconds of the check and of the snapshot, and bytes compared, on this process."""
    recipe = small_recipe()
    generator = dataclasses.replace(recipe.generator, network=Network(sagan.Generator, width=WIDTH, z_dim=128))
    discriminator = dataclasses.replace(recipe.discriminator, network=Network(sagan.Discriminator, width=WIDTH))
    played = start(dataclasses.replace(recipe, generator=generator, discriminator=discriminator))
    steps(played, count=1)
    rank = dist.get_rank()
    session = Session(rank=rank, world=2, local_rank=rank, device=torch.device("cpu"))
    staging, record = Staging(), played.state.record()
    check = _median(lambda: check_drift(played.state, record, session=session, images_seen=12))
    snapshot = _median(
        lambda: take_snapshot(
            played.state.slices(own=True, buffers=rank == 0),
            staging=staging,
            images_seen=12,
            rank=rank,
            world=2,
            documents={},
            record=record,
        )
    )
    num_bytes = sum(tensor.nbytes for _, tensor in replicated(played.state))
    return {"seconds": torch.tensor([check, snapshot], dtype=torch.float64), "bytes": torch.tensor(num_bytes)}


def _median(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        dist.barrier()
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def main() -> None:
    """Measure and print."""
    as_json = command_line(__doc__).parse_args().json
    results = run_ranks(measure, 2, timeout_seconds=600.0)
    check, snapshot = (max(float(found["seconds"][place]) for found in results) for place in (0, 1))
    figures = {
        "compared_bytes": int(results[0]["bytes"]),
        "check_seconds": check,
        "snapshot_seconds": snapshot,
        "check_over_snapshot": check / snapshot,
        "check_gb_per_second": int(results[0]["bytes"]) / check / 1e9,
    }
    if as_json:
        print(json.dumps(figures))
        return
    print(f"compared on each process: {figures['compared_bytes'] / 1e6:,.0f} MB in {check:.3f} s")
    print(f"snapshot of its half: {snapshot:.3f} s; the comparison is {check / snapshot:.2f} of that")


if __name__ == "__main__":
    main()
