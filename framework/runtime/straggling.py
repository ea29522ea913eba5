"""Finds the process that holds the others up.

In synchronous training every process's steps take as long as the slowest one's, so step times do not say who is slow.
Three measurements do, and they are the same on every engine:

* compute: a fixed piece of work without communication, timed between steps now and then (`StepTimer`). A device that is
  throttled, shared or broken takes longer for it. A process that is slow at something else does not show.
* data: the seconds that a process has waited for its batches. While it waits, the others wait in a collective.
* trip: the shortest trip of a message to the launch's store and back, which the watchdog's thread measures in passing.
  It uses the network by which the processes met; gradients may have a faster one, and a link that is narrow but quick
  to answer does not show.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch

SHARE = 0.003
"""Share of the time that may go into the fixed piece of work, counted as it would take undisturbed."""
SIZE = {"cpu": 160, "cuda": 1024}  # side of its matrices: a fraction of a millisecond
MOST_AT_ONCE = 16
ENOUGH = 200
"""Number of timings that a judgement needs; with frequent reports they are collected over several."""
TICKS = 2
"""Number of reports in a row at which a process must stand out; once may be a backup, or a colleague's job."""
SLOWER = 1.5
DATA_SHARE = 0.1
TRIP_FACTOR, TRIP_SECONDS = 5.0, 0.005


class StepTimer:
    """Times a fixed piece of work: the product of two matrices."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        side = SIZE[device.type]
        self._matrix = torch.ones(side, side, device=device)
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        self._warm = False
        self.reset()

    def reset(self) -> None:
        """Begin a new window."""
        self._times: list[float] = []
        self._shortest_seconds, self._begun = math.inf, time.monotonic()

    def probe(self) -> None:
        """Do and time the work until it has had its share of the time; called once per step."""
        for _ in range(MOST_AT_ONCE if self._device.type == "cpu" else 1):
            if self._times and len(self._times) * self._shortest_seconds > SHARE * (time.monotonic() - self._begun):
                return
            if self._device.type == "cpu":
                begun = time.perf_counter()
                torch.mm(self._matrix, self._matrix)
                self._note(time.perf_counter() - begun)
            else:
                self._probe_cuda()

    def _probe_cuda(self) -> None:
        """Time the work between two events on the stream, read at a later step so that nothing waits for the device."""
        if self._events is None:
            self._events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        elif self._events[1].query():
            self._note(self._events[0].elapsed_time(self._events[1]) / 1000.0)
        else:
            return
        self._events[0].record()
        torch.mm(self._matrix, self._matrix)
        self._events[1].record()

    def _note(self, seconds: float) -> None:
        if self._warm:  # the first one loads libraries
            self._times.append(seconds)
            self._shortest_seconds = min(self._shortest_seconds, seconds)
        self._warm = True

    def measured(self) -> tuple[int, float, float]:
        """Return how often the work was timed in this window, its mean in seconds, and the mean's standard error.

        The two last are NaN for fewer than two timings.
        """
        times = self._times
        if len(times) < 2:
            return len(times), math.nan, math.nan
        return len(times), statistics.fmean(times), statistics.stdev(times) / math.sqrt(len(times))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankTiming:
    """The measurements of one process between two reports; processes exchange the fields in this order."""

    wait_share: float
    """Share of the time spent waiting for data."""
    work_count: float
    """Number of times the fixed piece of work was timed."""
    work_seconds: float
    """Mean duration of the fixed piece of work."""
    work_error_seconds: float
    """Standard error of that mean."""
    trip_seconds: float
    """Duration of a message's way to the store and back; NaN where none was measured."""

    def row(self) -> list[float]:
        """Return the fields as a list of numbers, for a collective."""
        return list(dataclasses.astuple(self))

    @classmethod
    def from_row(cls, row: Sequence[float]) -> RankTiming:
        """Return the timing whose `row` another process sent."""
        return cls(**dict(zip((f.name for f in dataclasses.fields(cls)), row, strict=True)))


def enough(timings: Sequence[RankTiming]) -> bool:
    """Return whether the fixed piece of work was timed often enough on every rank; a new window then begins."""
    return all(timing.work_count >= ENOUGH for timing in timings)


class Stragglers:
    """Finds processes that stand out among all of them, and says so once.

    Args:
        hosts: the machine of each rank.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts
        self._in_a_row: dict[tuple[str, int], int] = {}

    def observe(self, timings: Sequence[RankTiming]) -> tuple[dict[str, float], list[str]]:
        """Return metrics (the worst value of each kind, and its rank), and a sentence for every new straggler.

        Args:
            timings: one per rank, over the same time.
        """
        # Metrics show the worst value, whether or not it is a straggler's.
        work = [timing.work_seconds for timing in timings]
        compared = [value / _others(work, rank) if enough(timings) else math.nan for rank, value in enumerate(work)]
        kinds: dict[str, list[float]] = {
            "compute_slowdown": compared,
            "data_wait_share": [timing.wait_share for timing in timings],
            "trip_ms": [1000.0 * timing.trip_seconds for timing in timings],
        }
        metrics: dict[str, float] = {}
        for kind, values in kinds.items():
            if finite := [value for value in values if math.isfinite(value)]:
                metrics[f"perf/{kind}"] = max(finite)
                if len(timings) > 1:
                    metrics[f"perf/{kind}_rank"] = float(values.index(max(finite)))

        # A process is named once, when it has stood out at enough reports in a row.
        sentences = []
        for kind, stands_out, say in self._tests(timings):
            if kind == "compute" and not enough(timings):
                continue
            for rank in range(len(timings)):
                count = self._in_a_row.get((kind, rank), 0) + 1 if stands_out(rank) else 0
                self._in_a_row[kind, rank] = count
                if count == TICKS:
                    sentences.append(f"warning: rank {rank} ({self._hosts[rank]}) {say(rank)}")
        return metrics, sentences

    def _tests(self, timings: Sequence[RankTiming]) -> list[tuple[str, Callable[[int], bool], Callable[[int], str]]]:
        """Return the kinds, each with the test whether a rank stands out and the sentence to say then."""
        # Two standard errors on either side, so that chance alone seldom makes a straggler.
        work, trips = [timing.work_seconds for timing in timings], [timing.trip_seconds for timing in timings]
        at_least = [timing.work_seconds - 2 * timing.work_error_seconds for timing in timings]
        at_most = [timing.work_seconds + 2 * timing.work_error_seconds for timing in timings]
        waits = [timing.wait_share for timing in timings]
        return [
            (
                "compute",
                lambda rank: at_least[rank] > SLOWER * _others(at_most, rank),
                lambda rank: (
                    f"computes {work[rank] / _others(work, rank):.1f}x slower than the median of the others, who wait "
                    "for it in every step: look for other programs on its cores or GPU, for throttling (temperature, "
                    "power), or give the job another machine"
                ),
            ),
            (
                "data",
                lambda rank: waits[rank] > DATA_SHARE + _others(waits, rank),
                lambda rank: (
                    f"waits for data {100 * waits[rank]:.0f} % of the time (the others: "
                    f"{100 * _others(waits, rank):.0f} %): look at its disk and network, or raise --workers"
                ),
            ),
            (
                "trip",
                lambda rank: trips[rank] > TRIP_SECONDS and trips[rank] > TRIP_FACTOR * _others(trips, rank),
                lambda rank: (
                    f"is far away: a message to the first machine and back takes {1000 * trips[rank]:.1f} ms, for the "
                    f"others {1000 * _others(trips, rank):.1f} ms: look at its network cable, interface and route "
                    "(`framework doctor` started like the job measures them)"
                ),
            ),
        ]


def _others(values: Sequence[float], rank: int) -> float:
    """Return the median of the other ranks' values; NaN without any, so that no value is larger."""
    finite = [value for other, value in enumerate(values) if other != rank and math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan
