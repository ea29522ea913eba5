"""A measurement of all-reduces: whether sums are right, the latency of small ones, the throughput of large ones."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from framework.doctor.finding import Finding, fail, ok, warn

NUM_SMALL, NUM_LARGE = 50, 5
LARGE_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}
SLOW_LATENCY_SECONDS = 5e-3
SLOW_BYTES_PER_SECOND = 100e6


@dataclass(frozen=True, kw_only=True)
class AllReduce:
    """The result of the measurement, the same on every process.

    Attributes:
        backend: gloo or nccl.
        world: the number of processes.
        wrong: the number of wrong elements in the sum, on the process that has the most.
        latency_seconds: the median time of 8-byte all-reduces, on the slowest process.
        bytes_per_second: the size of a large tensor by the time until every process has its sum.
    """

    backend: str
    world: int
    wrong: int
    latency_seconds: float
    bytes_per_second: float


def measure(device: torch.device) -> AllReduce:
    """Time all-reduces in the default process group; every process must call it."""
    # A sum whose every element is known.
    rank, world = dist.get_rank(), dist.get_world_size()
    large = torch.full((LARGE_BYTES[device.type] // 4,), float(rank + 1), device=device)
    dist.all_reduce(large)  # also makes the connections
    wrong = int((large != world * (world + 1) / 2).sum())
    # Times here.
    small = torch.zeros(2, device=device)
    latency = statistics.median(_seconds(small) for _ in range(NUM_SMALL))
    large.zero_()
    seconds = statistics.median(_seconds(large) for _ in range(NUM_LARGE))
    # The worst of all processes.
    slowest = torch.tensor([latency, seconds, float(wrong)], dtype=torch.float64, device=device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    latency, seconds, wrong_anywhere = slowest.tolist()
    return AllReduce(
        backend=str(dist.get_backend()),
        world=world,
        wrong=int(wrong_anywhere),
        latency_seconds=latency,
        bytes_per_second=LARGE_BYTES[device.type] / seconds,
    )


def _seconds(tensor: torch.Tensor) -> float:
    _settle(tensor)
    begun = time.perf_counter()
    dist.all_reduce(tensor)
    _settle(tensor)
    return time.perf_counter() - begun


def _settle(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def judge_all_reduce(measured: AllReduce) -> Finding:
    """Return the finding for what was measured."""
    area, rate = f"all-reduce, {measured.backend}", measured.bytes_per_second
    value = (
        f"{measured.world} processes: {1e3 * measured.latency_seconds:.2f} ms latency, {rate / 1e9:.2f} GB/s; "
        f"gradients of 25 M parameters take {100e6 / rate + measured.latency_seconds:.2f} s"
    )
    if measured.wrong:
        wrong = f"{measured.wrong} elements of the sum are wrong"
        return fail(area, wrong, "do not train here: look for faulty memory, GPUs or links")
    if measured.latency_seconds > SLOW_LATENCY_SECONDS or rate < SLOW_BYTES_PER_SECOND:
        advice = (
            "slow: is it the fast network? GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME choose the interface; or are the "
            "processors busy with something else?"
        )
        return warn(area, value, advice)
    return ok(area, value)
