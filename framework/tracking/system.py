"""Memory, processor, disk and revision, read when the caller asks, without threads and without waiting for the device.

MLflow shows every name under `system/` on its own tab; `perf/` stands with the other charts.
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_GIB = 1 << 30
_GIT_TIMEOUT_SECONDS = 10


class SystemSampler:
    """Samples this process and its machine.

    Args:
        folder: the run folder; free space is that of the disk which holds it.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._seconds = time.monotonic()
        self._cpu_seconds = _cpu_seconds()

    def sample(self) -> dict[str, float]:
        """Return the values since the last call.

        Always there are `system/memory_gb` (resident), `system/cpu_cores` (cores that this process and its ended
        children kept busy since then), `system/disk_free_gb`; `system/memory_free_gb` on Linux. With CUDA in
        use there are `perf/peak_gpu_memory_gb` (allocator's peak since then) and `system/gpu_memory_reserved_gb`.
        GB means 2^30 bytes. What cannot be read is left out.
        """
        now, cpu_seconds = time.monotonic(), _cpu_seconds()
        values = {
            "system/memory_gb": _resident_bytes() / _GIB,
            "system/cpu_cores": (cpu_seconds - self._cpu_seconds) / max(now - self._seconds, 1e-3),
        }
        self._seconds, self._cpu_seconds = now, cpu_seconds
        free_bytes = _memory_free_bytes()
        if free_bytes is not None:
            values["system/memory_free_gb"] = free_bytes / _GIB
        # The disk may vanish under a run (network mounts); a tick is no place to fail for it.
        if self._folder.exists():
            values["system/disk_free_gb"] = shutil.disk_usage(self._folder).free / _GIB
        return values | _cuda_memory()


def git_revision(folder: Path | str) -> dict[str, Any] | None:
    """Return `{"commit": 40 hex digits, "dirty": bool}` of the work tree around `folder`; None outside git.

    None also when git is not installed or does not answer within 10 s.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path | str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            # Reading must not take the index lock from somebody who is committing.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: the peak is the next best
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _memory_free_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cuda_memory() -> dict[str, float]:
    # This package does not import torch: the trainer has, and other users of the tracker need not.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    peak_bytes = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return {
        "perf/peak_gpu_memory_gb": peak_bytes / _GIB,
        "system/gpu_memory_reserved_gb": torch.cuda.memory_reserved() / _GIB,
    }
