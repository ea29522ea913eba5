"""What decides the last bits of float arithmetic on a CPU."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def processor() -> str:
    """The version of torch, its instruction set, and the processor's maker, family and model.

    Libraries below torch choose their kernels by these: where two machines have the same, the same program has so far
    computed the same bits on both.
    """
    told = Path("/proc/cpuinfo")
    lines = told.read_text().split("\n\n")[0].splitlines() if told.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kind = "/".join(fields.get(name, "?") for name in ("vendor_id", "cpu family", "model"))
    return f"torch {torch.__version__} {platform.machine()} {torch.backends.cpu.get_cpu_capability()} {kind}"
