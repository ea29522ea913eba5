"""Recorded results of public implementations, and how far ours may deviate. See README.md in this folder."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent

deviations: dict[str, dict[str, float]] = defaultdict(dict)
"""Largest deviation seen in this run, by file and case; printed at the end of the run."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recorded call: tensors by name for each kind of value."""

    file: str
    name: str
    inputs: dict[str, Tensor]
    params: dict[str, Tensor]
    """State before the call, parameters and buffers."""
    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]
    draws: dict[str, Tensor]
    """Random numbers in the order of their use."""
    after: dict[str, Tensor]
    """State after the call: buffers, or after an optimiser's step everything."""

    def agrees(self, ours: Tensor, recorded: Tensor, *, tolerance: float, scale: float | None = None) -> None:
        """Assert `max |ours - recorded| <= tolerance * scale`; the scale is the recorded tensor's maximum if None."""
        assert ours.shape == recorded.shape, f"{self.name}: shape {tuple(ours.shape)}, recorded {tuple(recorded.shape)}"
        scale = scale or recorded.abs().max().item() or 1.0
        deviation = (ours.detach().double() - recorded.double()).abs().max().item() / scale
        deviations[self.file][self.name] = max(deviations[self.file].get(self.name, 0.0), deviation)
        assert deviation <= tolerance, f"{self.file} {self.name}: deviates by {deviation:.2e} of {scale:.2e}"


@cache
def _read(file: str) -> dict[str, Any]:
    with np.load(FOLDER / f"{file}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def names(file: str) -> list[str]:
    """The cases of a file."""
    return [name for name in json.loads(str(_read(file)["meta"])) if name != "_source"]


def load(file: str, name: str) -> Case:
    """A case with fresh tensors."""
    values = _read(file)

    def kind(key: str) -> dict[str, Tensor]:
        prefix = f"{name}/{key}/"
        return {k.removeprefix(prefix): torch.from_numpy(v.copy()) for k, v in values.items() if k.startswith(prefix)}

    return Case(
        file=file,
        name=name,
        inputs=kind("in"),
        params=kind("param"),
        outputs=kind("out"),
        gradients=kind("grad"),
        draws=kind("rand"),
        after=kind("after"),
    )
