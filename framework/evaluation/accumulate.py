"""Sums over samples: what a `SampleMetric` collects on one rank, and how ranks add theirs up."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from framework.runtime.collectives import summed
from framework.runtime.session import Session
from framework.utils.errors import FrameworkError

REAL = "real_"
"""The beginning of the names of a real sample's tensors, where a metric looks at both sets."""

log = logging.getLogger(__name__)


class Accumulating(Protocol):
    """A metric of sums, as a pass over samples sees it; `SampleMetric` explains the members."""

    @property
    def name(self) -> str:
        """The metric's name."""
        ...

    @property
    def samples(self) -> tuple[str, ...]:
        """Names of the tensors it looks at."""
        ...

    @property
    def compares_with_real(self) -> bool:
        """Whether it looks at the real samples of the same positions, too."""
        ...

    def accumulate(self, samples: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the sums over the samples of a batch."""
        ...


class Sums:
    """The sums of one metric over the first `count` samples, on one rank.

    A metric that cannot be accumulated, or whose code fails, costs no other metric its value: the first reason is kept
    in `missing`, and later samples are passed over.
    """

    def __init__(self, metric: Accumulating, count: int) -> None:
        self.metric, self.count = metric, count
        self._sums: dict[str, Tensor] = {}
        self._missing = ""

    def add(self, start: int, samples: Mapping[str, Tensor]) -> None:
        """Take in a batch of named tensors (n, ...) on the host, whose first sample has position `start`."""
        rows = self.count - start
        if rows <= 0 or self._missing:
            return
        absent = [name for name in self.metric.samples if name not in samples]
        if absent:
            self._missing = f"it looks at {', '.join(absent)}, and these samples are {', '.join(samples)}"
            return
        try:
            found = self.metric.accumulate({name: tensor[:rows] for name, tensor in samples.items()})
            self._missing = self._refusal(found)
        except FrameworkError as error:
            self._missing = str(error)
        except Exception as error:  # the metric may be a user's, and training goes on without its value
            log.warning("%s.accumulate fails", self.metric.name, exc_info=True)
            self._missing = f"{self.metric.name}.accumulate fails: {type(error).__name__}: {error}"
        if not self._missing:
            added = {name: tensor.detach().cpu() for name, tensor in found.items()}
            self._sums = {n: self._sums[n] + t for n, t in added.items()} if self._sums else added

    def _refusal(self, found: Mapping[str, Tensor]) -> str:
        """Return why a batch's sums cannot be added to those before; empty if they can."""
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        before = {name: tuple(tensor.shape) for name, tensor in self._sums.items()}
        for name, tensor in found.items():
            if tensor.dtype != torch.float64:
                return f"{self.metric.name}.accumulate must return float64 tensors, and {name} is {tensor.dtype}"
        if not shapes or (before and shapes != before):
            return f"{self.metric.name}.accumulate must return the same sums for every batch: {before}, then {shapes}"
        return ""

    def over_ranks(self, session: Session) -> tuple[dict[str, Tensor], str | None]:
        """Return the sums of all ranks together, and the reason where there are none. A collective."""
        # The first batch is rank 0's: a rank without one learns from it what is added up.
        shapes = {name: list(tensor.shape) for name, tensor in self._sums.items()}
        told: dict[str, list[int]] = json.loads(session.broadcast_text(json.dumps(shapes)))
        mine = self._sums or {name: torch.zeros(shape, dtype=torch.float64) for name, shape in told.items()}
        if not self._missing and {name: list(tensor.shape) for name, tensor in mine.items()} != told:
            self._missing = f"{self.metric.name}.accumulate returns other sums on rank {session.rank}: {shapes}"

        # A reason on any rank is one for all.
        failed = int(session.sum_over_ranks(float(bool(self._missing))))
        elsewhere = f"{self.metric.name} fails on {failed} rank(s); their log says why"
        if missing := session.broadcast_text((self._missing or elsewhere) if failed else ""):
            return {}, missing
        return {name: summed(session, mine[name].clone()) for name in sorted(told)}, None
