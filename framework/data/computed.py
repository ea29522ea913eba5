"""Sources without files: samples are computed from (seed, position), so they never repeat and nothing is stored.

They are for experiments on known distributions, such as the points in the plane on which the loss of modes is studied
(Metz et al., arXiv:1611.02163, section 3.1; Srivastava et al., arXiv:1705.07761, section 4.1).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from framework.data.batches import Batch, BatchIterator, ReadPartition
from framework.data.derived import DerivedField
from framework.data.errors import DataError
from framework.data.fields import Field, Label
from framework.data.plan import row_draws
from framework.data.points import Vector
from framework.recipe.sources import FieldsSource
from framework.utils.ranges import Range, check_numbers


@dataclass(frozen=True, kw_only=True)
class Computed(FieldsSource):
    """A source whose samples are computed; a source of one's own has `fields` and `rows`, and is a frozen dataclass."""

    count: Annotated[int, Range(least=1)] = 100_000
    """The number of samples that curves call an epoch; no sample is ever repeated."""
    derive: tuple[DerivedField, ...] = ()
    """Fields that are computed on the device from others and from the clock, in this order."""

    @property
    @abstractmethod
    def fields(self) -> tuple[Field, ...]:
        """The fields of a sample."""

    @abstractmethod
    def rows(self, positions: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
        """Return the fields of the samples at n positions, int64 (n,): arrays (n, ...) as `Field.row` says.

        Each row depends on the seed and its own position only.
        """


def normal_pairs(draws: np.ndarray) -> np.ndarray:
    """Return two standard normal numbers for each two uniform ones in [0, 1), (n, 2), by Box and Muller (1958)."""
    length, angle = np.sqrt(-2 * np.log1p(-draws[:, 0])), 2 * math.pi * draws[:, 1]
    return length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Gaussians(Computed):
    """Points in the plane from a mixture of equal normal distributions.

    A sample has the fields `point`, two numbers, and, if asked for, `label`, the number of its mode.
    """

    std: Annotated[float, Range(least=0)]
    """Standard deviation of each mode."""
    labelled: bool = False
    """Whether a sample has its mode as a label."""

    def __post_init__(self) -> None:
        check_numbers(self)

    @abstractmethod
    def means(self) -> np.ndarray:
        """Return the means of the modes, float64 (modes, 2)."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a sample."""
        point = Vector("point", 2)
        return (point, Label("label", len(self.means()))) if self.labelled else (point,)

    def rows(self, positions: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
        """Return `point`, float32 (n, 2), and with labels `label`, int64 (n,)."""
        means = self.means()
        draws = row_draws(seed, positions, 3)
        mode = (draws[:, 0] * len(means)).astype(np.int64)
        rows = {"point": (means[mode] + self.std * normal_pairs(draws[:, 1:])).astype(np.float32)}
        return rows | {"label": mode} if self.labelled else rows


@dataclass(frozen=True, kw_only=True)
class RingOfGaussians(Gaussians):
    """Points around the corners of a regular polygon, the first of which lies on the first axis.

    In the scale of WGAN-GP's toy problems (Gulrajani et al., arXiv:1704.00028, whose program divides the ring by 1.414)
    it is `RingOfGaussians(radius=2 / 1.414, std=0.02 / 1.414)`.
    """

    modes: Annotated[int, Range(least=1)] = 8
    """The number of corners."""
    radius: Annotated[float, Range(above=0)] = 2.0
    """Their distance from the origin."""
    std: Annotated[float, Range(least=0)] = 0.02
    """Standard deviation of each mode."""

    def means(self) -> np.ndarray:
        """Return the corners, float64 (modes, 2)."""
        angles = 2 * math.pi * np.arange(self.modes) / self.modes
        return self.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@dataclass(frozen=True, kw_only=True)
class GridOfGaussians(Gaussians):
    """Points around the nodes of a square grid, whose middle is the origin.

    In the scale of WGAN-GP's toy problems (Gulrajani et al., arXiv:1704.00028, whose program divides the grid by 2.828)
    it is `GridOfGaussians(spacing=2 / 2.828, std=0.05 / 2.828)`.
    """

    side: Annotated[int, Range(least=1)] = 5
    """The number of nodes in a row, and of rows."""
    spacing: Annotated[float, Range(above=0)] = 2.0
    """The distance between neighbours."""
    std: Annotated[float, Range(least=0)] = 0.05
    """Standard deviation of each mode."""

    def means(self) -> np.ndarray:
        """Return the nodes row by row, float64 (side * side, 2)."""
        line = self.spacing * (np.arange(self.side) - (self.side - 1) / 2)
        return np.stack([np.tile(line, self.side), np.repeat(line, self.side)], axis=1)


class ComputedStream:
    """The stream of a computed source; see `framework.data.stream.Stream` for what is the same.

    Attributes:
        count: number of samples that is called an epoch.
        fingerprint: identity of the data: a hash of the source's class and numbers.
        class_names: empty.
    """

    def __init__(self, source: Computed, *, seed: int) -> None:
        self._source, self._seed = source, seed
        self.count = source.count
        told = {"type": type(source).__name__, "fields": [repr(one) for one in source.fields], **_numbers(source)}
        self.fingerprint = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        self.class_names: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Return what is computed and how, as plain values for the record of a run."""
        source = self._source
        return {
            "location": "computed",
            "name": type(source).__name__,
            "split": "",
            "count": self.count,
            "fingerprint": self.fingerprint,
            "classes": source.classes,
            "seed": self._seed,
            "source": _numbers(source),
        }

    def shards_at(self, positions: list[int]) -> list[str]:
        """Return the names of the shards that hold the samples at some positions: none."""
        return []

    def batches(
        self,
        start: int,
        *,
        batch_size: int,
        micro_batches: int = 1,
        rank: int = 0,
        world: int = 1,
        stop: int | None = None,
    ) -> ComputedBatches:
        """Return this rank's part of the global batches from position `start` on; see `Stream.batches`.

        Raises:
            DataError: an argument is out of range.
        """
        partition = ReadPartition.checked(
            start, batch_size=batch_size, micro_batches=micro_batches, rank=rank, world=world, stop=stop
        )
        return ComputedBatches(self._source, start=start, partition=partition, seed=self._seed)


class ComputedBatches(BatchIterator):
    """The iterator over a rank's batches of a computed source."""

    def __init__(self, source: Computed, *, start: int, partition: ReadPartition, seed: int) -> None:
        self._source, self._position, self._partition, self._seed = source, start, partition, seed

    def __next__(self) -> Batch:
        slices = self._partition.slices(self._position)
        if not slices:
            raise StopIteration
        positions = [position for micro in slices for position in micro]
        rows = self._source.rows(np.array(positions, np.int64), seed=self._seed)
        names = [one.name for one in self._source.fields]
        if list(rows) != names:
            raise DataError(f"{type(self._source).__name__}.rows gives {', '.join(rows)}; its fields are {names}")
        self._position = self._partition.after(self._position)
        return Batch(
            fields={name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in rows.items()},
            keys=[str(position) for position in positions],
            positions=positions,
            skipped=[],
            micro_sizes=[len(micro) for micro in slices],
            wait_seconds=0.0,
        )

    def close(self) -> None:
        """Do nothing: no worker is running."""


def _numbers(source: Computed) -> dict[str, Any]:
    """Return the numbers of a source by name."""
    values = {one.name: getattr(source, one.name) for one in dataclasses.fields(source)}
    return {name: value for name, value in values.items() if isinstance(value, int | float | str)}
