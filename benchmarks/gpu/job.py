"""What an item is given: a device, a time by which it should end, and where its findings go."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.findings import Findings

_LONGEST_MESSAGE = 600


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What only the user has; an item without its input says so and is skipped."""

    peer: Path | None = None
    """Checkout of NVlabs/stylegan3."""
    cifar: Path | None = None
    """CIFAR-10 as shards."""
    inception: Path | None = None
    """Weights of FID's Inception, fp32."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One item's work."""

    device: torch.device
    deadline: float
    """A time of `time.monotonic`, in seconds."""
    findings: Findings
    inputs: Inputs = Inputs()

    @property
    def rehearsal(self) -> bool:
        """On a CPU everything is done at tiny sizes, to show that it will run on a GPU."""
        return self.device.type != "cuda"

    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    @contextmanager
    def part(self, **about: Any) -> Iterator[None]:
        """A part of the item whose failure is a finding and does not keep the other parts from running."""
        try:
            yield
        except Exception as error:
            message = f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]
            self.findings.add(**about, failed=message, where=traceback.format_exc()[-2 * _LONGEST_MESSAGE :])
        finally:
            release(self.device)

    def late(self, **about: Any) -> bool:
        """Whether the deadline has passed; a finding then says that this part was skipped."""
        if self.seconds_left() > 0:
            return False
        self.findings.add(**about, skipped="the item's time is up")
        return True


def synchronize(device: torch.device) -> None:
    """Wait for everything queued on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give back the memory of games that have ended; they hold cycles of hooks and closures."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def allow_tf32(allowed: bool) -> None:
    """Let fp32 products of matrices and convolutions round their factors to 10 bits of mantissa, or not."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
