"""The machine: versions, and the ceilings that every later figure is a share of."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.job import Job, allow_tf32, synchronize

ROUNDS = 10


def machine(job: Job) -> None:
    """Matrix products by precision, copies within the device's memory and to it."""
    device = job.device
    job.findings.add(
        device=device_name(device),
        date=time.strftime("%Y-%m-%d"),
        commit=commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        cores=os.cpu_count(),
    )
    _products(job, size=256 if job.rehearsal else 8192)
    num_bytes = 2**24 if job.rehearsal else 2**31
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _seconds(partial(target.copy_, source), device=device)
    job.findings.add(copied="within the device", gb_per_s=round(2 * num_bytes / seconds / 1e9, 1))
    if job.rehearsal:
        return
    target = target[: 2**28]
    for kind, pinned in (("pinned", True), ("pageable", False)):
        host = torch.empty(len(target), dtype=torch.uint8, pin_memory=pinned)
        seconds = _seconds(partial(target.copy_, host, non_blocking=True), device=device)
        job.findings.add(copied=f"from {kind} memory", gb_per_s=round(len(target) / seconds / 1e9, 1))


def device_name(device: torch.device) -> str:
    """The card's name; `cpu` without one."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def commit() -> str | None:
    """The commit under test; None where there is no git repository, or no git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def _products(job: Job, *, size: int) -> None:
    modes = (
        ("bf16", torch.bfloat16, False),
        ("fp16", torch.float16, False),
        ("tf32", torch.float32, True),
        ("fp32", torch.float32, False),
    )
    for mode, dtype, tf32 in modes:
        allow_tf32(tf32)
        a, b = (torch.randn(size, size, device=job.device).to(dtype) for _ in range(2))
        seconds = _seconds(partial(torch.matmul, a, b), device=job.device)
        job.findings.add(matrix_product=mode, size=size, tflop_per_s=round(2 * size**3 / seconds / 1e12, 3))
    allow_tf32(False)


def _seconds(work: Callable[[], object], *, device: torch.device) -> float:
    """Seconds per call, after three calls that warm up."""
    for _ in range(3):
        work()
    synchronize(device)
    began = time.perf_counter()
    for _ in range(ROUNDS):
        work()
    synchronize(device)
    return (time.perf_counter() - began) / ROUNDS
