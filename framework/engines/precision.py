"""Mixed precision: fp32 parameters, our own autocast, and a dynamic loss scale for fp16."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from framework.engines.base import Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the autocast context of forward passes; in fp32 it does nothing."""
    if precision == "fp32":
        return contextlib.nullcontext()
    # The cache would hold on to casts of weights that a later micro-batch or the opponent must see afresh.
    return torch.autocast(device.type, dtype=_DTYPES[precision], cache_enabled=False)


class LossScale:
    """Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2); the scale is 1 unless fp16."""

    GROWTH_INTERVAL_STEPS = 2000
    BACKOFF, GROWTH, LARGEST = 0.5, 2.0, 2.0**24

    def __init__(self, precision: Precision) -> None:
        self.enabled = precision == "fp16"
        self.scale = 2.0**16 if self.enabled else 1.0
        self._good_steps = 0

    def update(self, *, finite: bool) -> None:
        """Halve the scale after a skipped step; double it after `GROWTH_INTERVAL_STEPS` finite ones."""
        if not self.enabled:
            return
        if not finite:
            self.scale, self._good_steps = self.scale * self.BACKOFF, 0
            return
        self._good_steps += 1
        if self._good_steps == self.GROWTH_INTERVAL_STEPS:
            self.scale, self._good_steps = min(self.scale * self.GROWTH, self.LARGEST), 0

    def state(self) -> dict[str, float]:
        """Return what a checkpoint keeps: scale and finite steps since its last change; empty unless fp16."""
        return {"loss_scale": self.scale, "good_steps": float(self._good_steps)} if self.enabled else {}

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned; a checkpoint of another precision leaves the scale as it is."""
        if self.enabled and "loss_scale" in state:
            self.scale, self._good_steps = state["loss_scale"], int(state["good_steps"])
