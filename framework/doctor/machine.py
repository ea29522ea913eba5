"""The examination of this machine: software, processors, memory, GPUs, shared memory."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from framework.doctor.finding import Finding, fail, ok, warn
from framework.utils.quantities import format_bytes

SHOWN = ("torch", "accelerate", "deepspeed", "webdataset", "safetensors", "mlflow")
_OLDEST_PYTHON = (3, 11)
GIB = 1 << 30


def software() -> Iterator[Finding]:
    """Yield the findings on Python, this framework's requirements, and whether torch can be loaded."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST_PYTHON:
        yield fail("python", version, "Python 3.11 or newer is needed: make PYTHON=python3.12 env")
    else:
        yield ok("python", f"{version} ({sys.executable})")
    yield from packages(requirements())
    yield torch_loads()


def requirements() -> list[Requirement]:
    """Return this framework's requirements on this system; only names if it is not installed as a package."""
    try:
        written = importlib.metadata.requires("framework") or []
    except importlib.metadata.PackageNotFoundError:
        written = list(SHOWN)
    parsed = [Requirement(text) for text in written]
    return [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]


def packages(wanted: list[Requirement]) -> Iterator[Finding]:
    """Yield a finding with the versions of the main packages, and one for each requirement that is not met."""
    found: dict[str, str] = {}
    for requirement in wanted:
        try:
            found[requirement.name] = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield missing(requirement)
            continue
        if not requirement.specifier.contains(found[requirement.name], prereleases=True):
            yield warn(
                "packages",
                f"{requirement.name} {found[requirement.name]} is not {requirement.specifier}",
                f"pip install -c constraints.txt '{requirement.name}{requirement.specifier}'",
            )
    yield ok("packages", ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found) or "none")


def missing(requirement: Requirement) -> Finding:
    """Return the finding on a requirement that is not installed; training works without DeepSpeed."""
    advice = f"pip install -c constraints.txt '{requirement.name}{requirement.specifier}'"
    if requirement.name == "deepspeed":
        advice = f"only --engine zero1, zero2 and zero3 need it; {advice}"
        return warn("packages", "deepspeed is not installed", advice)
    return fail("packages", f"{requirement.name} is not installed", advice)


def torch_loads() -> Finding:
    """Return the finding on importing torch, which fails if its build and the system do not fit."""
    try:
        torch = importlib.import_module("torch")
    except Exception as error:
        return fail("torch", f"cannot be imported: {error}", "reinstall the build for this system: see pytorch.org")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return ok("torch", f"{torch.__version__}, {build} build, {torch.get_num_threads()} threads")


def processors() -> Finding:
    """Return the finding on the processor cores that this process may use."""
    usable = usable_cores()
    value = f"{usable:g} of {os.cpu_count()} cores"
    if usable < 2:
        return warn("cores", value, "one core decodes images and trains in turn: ask for at least 2 per process")
    return ok("cores", value)


def usable_cores(*, group: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Return the number of cores by affinity (`taskset`, Slurm) and by quota (containers).

    Args:
        group: the control group's file.
    """
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = group.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def memory(*, group: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Return the finding on free memory, within the container's limit if there is one."""
    total, free = usable_memory(group=group)
    value = f"{format_bytes(free)} free of {format_bytes(total)}"
    if free < 2 * GIB:
        return warn("memory", value, "a process with its workers takes about 2 GB: use fewer processes or --workers 0")
    return ok("memory", value)


def usable_memory(*, group: Path) -> tuple[int, int]:
    """Return the total and the free bytes of memory, within the limit of the control group."""
    system = psutil.virtual_memory()
    total, free = int(system.total), int(system.available)
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return total, free
    if limit == "max" or int(limit) >= total:
        return total, free
    return int(limit), min(free, int(limit) - used)


def shared_memory(*, folder: Path = Path("/dev/shm")) -> Finding:
    """Return the finding on shared memory, which batches from loading workers and NCCL's buffers need.

    Args:
        folder: the place where the system keeps it.
    """
    advice = "docker run --shm-size 8g; Kubernetes: a volume emptyDir with medium Memory at /dev/shm"
    if not folder.is_dir():
        if sys.platform != "linux":
            return ok("shared memory", "none on this system; files in the temporary folder are used")
        return warn("shared memory", f"no {folder}", advice)
    usage = shutil.disk_usage(folder)
    value = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)} in {folder}"
    if usage.free < 64 << 20:
        return fail("shared memory", value, f"NCCL will fail, and loading workers take slower files: {advice}")
    if usage.free < GIB:
        return warn("shared memory", value, f"enough for small images on few processes: {advice}")
    return ok("shared memory", value)


def gpus() -> Iterator[Finding]:
    """Yield the findings on GPUs, their memory, and their precisions."""
    import torch

    if not torch.cuda.is_available():
        yield no_gpu(driver=has_driver(), build=torch.version.cuda)
        yield ok("precision", "fp32; bf16 is computed on CPUs too, but not faster everywhere")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        value = f"{properties.name}, {format_bytes(free)} free of {format_bytes(total)}"
        if free < 0.8 * total:
            yield warn(f"GPU {index}", value, "another process uses it: `nvidia-smi` says which")
        else:
            yield ok(f"GPU {index}", value)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        yield ok("precision", "fp32, bf16, fp16")
    else:
        yield warn("precision", "no bf16", "use --precision fp16 (not with DeepSpeed) or fp32")


def no_gpu(*, driver: bool, build: str | None) -> Finding:
    """Return the finding on a machine where torch sees no GPU, though there may be one.

    Args:
        driver: True if the NVIDIA driver is loaded.
        build: the CUDA version that torch was built for, or None.
    """
    if driver and build is None:
        return fail("GPU", "there is one, but this torch is a CPU build", "install the CUDA build of torch")
    if driver:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f"CUDA_VISIBLE_DEVICES={hidden!r} hides it, or the" if hidden is not None else "the"
        return fail("GPU", "there is one, but CUDA cannot use it", f"{why} driver is too old for CUDA {build}")
    return ok("GPU", "none: training runs on the CPU")


def backends() -> Finding:
    """Return the finding on the backends by which processes exchange tensors: gloo, and NCCL between GPUs."""
    import torch
    from torch import distributed

    gloo = distributed.is_available() and distributed.is_gloo_available()
    nccl = nccl_version()
    return judge_backends(gloo=gloo, nccl=nccl, on_gpu=torch.cuda.is_available())


def nccl_version() -> str:
    """Return the version of NCCL, such as 2.27.3; empty if this torch has none."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_nccl_available() and torch.version.cuda):
        return ""
    return ".".join(map(str, torch.cuda.nccl.version()))


def judge_backends(*, gloo: bool, nccl: str, on_gpu: bool) -> Finding:
    """Return the finding on these backends.

    Args:
        gloo: True if this torch has gloo.
        nccl: the version of NCCL; empty if this torch has none.
        on_gpu: True if training will run on GPUs.
    """
    value = f"{'gloo' if gloo else 'no gloo'}, {f'NCCL {nccl}' if nccl else 'no NCCL'}"
    advice = "install torch from pytorch.org: its builds for Linux have both"
    if not gloo:
        return fail("backends", value, f"several processes need gloo, to agree when to stop at least; {advice}")
    if on_gpu and not nccl:
        return fail("backends", value, f"several GPUs need NCCL; {advice}")
    return ok("backends", value if nccl else "gloo (NCCL is for GPUs)")


def has_driver() -> bool:
    """Return whether the NVIDIA driver is loaded."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
