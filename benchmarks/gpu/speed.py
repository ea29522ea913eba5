"""Seconds per thousand images, memory, host time, launches and host synchronisations of the recipes people time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from benchmarks.gpu.job import Job, synchronize
from benchmarks.gpu.play import Play
from benchmarks.recipes import load_recipe
from framework.engines.base import Precision

LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
READS = "aten::_local_scalar_dense"
"""`.item()`, `.tolist()`: on a GPU the host waits."""
TOP = 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recipe at a batch that one card of 40 GB or more holds."""

    recipe: str
    batch_size: int
    precision: Precision = "bf16"


CASES = (
    Case(recipe="stylegan2_ffhq256", batch_size=32),
    Case(recipe="biggan_imagenet128", batch_size=64),
    Case(recipe="sagan_imagenet128", batch_size=64),
    Case(recipe="r3gan_cifar10", batch_size=512),
    Case(recipe="stylegan3_afhqv2", batch_size=8),
    Case(recipe="stylegan2_ffhq1024", batch_size=8),
)
REHEARSED = (Case(recipe="sagan_fashion", batch_size=4),)


def speed(job: Job) -> None:
    """Two findings per case: the pace over a whole cycle of lazy penalties, and a profile of one plain step."""
    for case in REHEARSED if job.rehearsal else CASES:
        if job.late(recipe=case.recipe):
            continue
        about = {"recipe": case.recipe, "batch_size": case.batch_size, "precision": case.precision}
        with job.part(**about):
            play = Play(
                load_recipe(case.recipe), batch_size=case.batch_size, device=job.device, precision=case.precision
            )
            steps, warm_up = (1, 0) if job.rehearsal else (16, 3)
            job.findings.add(**about, **play.pace(steps=steps, warm_up=warm_up))
            job.findings.add(**about, **profiled(play))


def profiled(play: Play) -> dict[str, object]:
    """Counts of one step, and the operations in which the device spent the most time, in ms.

    One `cudaDeviceSynchronize` is the measurement's own.
    """
    cuda = play.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=activities) as profile:
        play.step()
        synchronize(play.device)
    events = profile.key_averages()

    def milliseconds(event: torch.autograd.profiler_util.FunctionEventAvg) -> float:
        return (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1000

    called = [event for event in events if event.device_type == DeviceType.CPU]  # kernels are counted by their callers
    longest = sorted(called, key=milliseconds, reverse=True)[:TOP]
    return {
        "launches": sum(event.count for event in events if event.key in LAUNCHES),
        "synchronisations": {event.key: event.count for event in events if "Synchronize" in event.key},
        "host_reads": sum(event.count for event in events if event.key == READS),
        "longest_ms": {event.key[:80]: round(milliseconds(event), 2) for event in longest},
    }
