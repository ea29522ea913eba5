"""Measures the memory that a process and its device use, and gives back what is not used."""

from __future__ import annotations

import contextlib
import ctypes
import sys

import psutil
import torch


def resident_bytes() -> int:
    """Return the memory of this process in RAM, bytes."""
    return int(psutil.Process().memory_info().rss)


def used_bytes(device: torch.device) -> int:
    """Return the bytes that training uses now: allocated device memory on a GPU, otherwise the process's RAM."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_bytes()


def available_bytes(device: torch.device) -> int:
    """Return the bytes that could still be allocated: free memory of the GPU, otherwise of the machine."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return int(psutil.virtual_memory().available)


def release_unused(device: torch.device) -> None:
    """Return freed memory to the system: the GPU's cache, and on Linux the C library's free lists."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)
