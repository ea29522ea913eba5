"""The history of a run's evaluations: the latest and the best value of every series, one series per protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from framework.tracking.checkpoints import Score


class MetricHistory:
    """The values by series (`metrics/fid10k-1a2b3c4d`), each with the clock at which it was measured.

    Attributes:
        best: best value of each series, the earliest of equal ones, as (images, value).
        latest: latest value of each series, as (images, value).
    """

    def __init__(self) -> None:
        self.best: dict[str, tuple[int, float]] = {}
        self.latest: dict[str, tuple[int, float]] = {}

    def take(
        self, images_seen: int, values: Mapping[str, float], *, lower_is_better: Mapping[str, bool] | None = None
    ) -> None:
        """Take the values of one evaluation into account.

        Args:
            values: values by series.
            lower_is_better: whether less is better, by series; where it is not told, the metric's name says it.
        """
        told = lower_is_better or {}
        for series, value in values.items():
            best, sign = self.best.get(series), 1 if told.get(series, is_distance(_name_of(series))) else -1
            if best is None or sign * value < sign * best[1]:
                self.best[series] = (images_seen, value)
            self.latest[series] = (images_seen, value)

    def growth(self, name: str) -> float | None:
        """Return the latest value of a metric over its best under the same protocol: 1 while it improves.

        It is None before the first evaluation, and where the best is not positive (KID may be below zero).
        """
        clocks = {series: at for series, (at, _) in self.latest.items() if _name_of(series) == name}
        if not clocks:
            return None
        series = max(clocks, key=lambda one: clocks[one])
        best, latest = self.best[series][1], self.latest[series][1]
        return latest / best if best > 0 else None

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint records, as JSON."""
        return {"best": dict(self.best), "latest": dict(self.latest)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; from an empty mapping, begin anew.

        A series without a best value is left out: nothing could be compared with it.
        """
        self.best = {series: (at, value) for series, (at, value) in state.get("best", {}).items() if value is not None}
        self.latest = {
            series: (at, value)
            for series, (at, value) in state.get("latest", {}).items()
            if value is not None and series in self.best
        }


def is_distance(name: str) -> bool:
    """Return whether less is better in the metric of this name."""
    return Score(name=name, value=0.0).lower_is_better


def _name_of(series: str) -> str:
    """Return the metric's name, such as `fid10k`, in the name of a series."""
    return series.partition("/")[2].rpartition("-")[0]
