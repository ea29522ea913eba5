"""The exact earth mover's distance between generated and real vectors, for small sets such as points in the plane."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from framework.data.computed import Computed, ComputedStream
from framework.data.joined import seed_of
from framework.evaluation.errors import MissingError
from framework.evaluation.images import SampleSet
from framework.evaluation.metrics.base import Measured, Metric, MetricInputs, Settings
from framework.recipe.checks import check_fields
from framework.runtime.collectives import summed, together
from framework.runtime.session import Session
from framework.utils.ranges import Range

MOST = 5_000
"""The most samples a side: the assignment takes time with the cube of their number, 12 s for so many."""


@dataclass(frozen=True, kw_only=True)
class EarthMoversDistance(Metric):
    """The mean distance that generated vectors must move to become as many real ones, on the cheapest way.

    Of two sets of n vectors it is the Wasserstein distance W1 of their empirical distributions under the Euclidean
    distance (Rubner et al. 2000, doi:10.1023/A:1026543900054): an assignment of one to the other, solved exactly. Two
    sets of the same distribution are not at distance 0, and the less so the smaller they are: for computed data the
    record's `details` have the distance between two real sets of the same size, below which no generator is to be
    expected. Every process finds the same vectors and the same assignment, so values do not depend on their number.

    Raises:
        RecipeError: `real` is no computed source.
        FrameworkError: a number that is out of range.
    """

    name = "earth_movers"
    definition = (
        "W1 of the empirical distributions of `count` generated and as many real vectors under the Euclidean distance, "
        "by an exact assignment (doi:10.1023/A:1026543900054)"
    )
    default_count = 500

    real: Computed | None = None
    """The distribution of the data, whose vectors are computed; None: those of the real set, the first ones of it."""
    field: str = "point"
    """The name of the vectors in generated and real samples."""
    seed: Annotated[int, Range(least=0)] = 0
    """Seed of the computed real vectors, which are others than those that a run with this seed trains on."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def compares_with_real(self) -> bool:  # type: ignore[override]  # the fields decide
        """Whether it needs a real set: where the data is not computed."""
        return self.real is None

    def options(self, settings: Settings) -> dict[str, Any]:
        """Return the fields, with what identifies the computed data, for the protocol."""
        told: dict[str, Any] = {"field": self.field}
        if self.real is not None:
            source = ComputedStream(self.real, seed=self.seed).describe()
            told |= {"seed": self.seed, "real": {name: source[name] for name in ("name", "source", "fingerprint")}}
        return json.loads(json.dumps(told, allow_nan=False))

    def obstacle(self, *, classes: int, num_features: int) -> str | None:
        """Return that there are too many samples; None where there are not."""
        if self.count is not None and self.count > MOST:
            return f"an exact assignment of {self.count:,} vectors takes too long; ask for at most {MOST:,}"
        return None

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the distance, and that between two real sets where the data is computed. A collective.

        Raises:
            MissingError: samples have no such vectors, some are not finite, or there are fewer real ones.
        """
        count, session = inputs.count, inputs.session
        made = self._stored(inputs.samples, count, session, whose="generated")
        if self.real is not None:
            real, other = self._computed(2 * count)
            details = {"between_real_sets": earth_movers_distance(real, other)}
        else:
            assert inputs.reference is not None
            if count > inputs.real_count:
                raise MissingError(f"it compares with as many real samples, {count:,}, and has {inputs.real_count:,}")
            real, details = self._stored(inputs.reference, count, session, whose="real"), {}
        if made.shape != real.shape:
            raise MissingError(f"generated vectors have {made.shape[1]} numbers, real ones {real.shape[1]}")
        return {self.name: Measured(value=earth_movers_distance(made, real), details=details)}

    def _computed(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return two halves of so many vectors of the computed source, float64 (count / 2, d)."""
        assert self.real is not None
        rows = self.real.rows(np.arange(count), seed=seed_of(self.seed, self.name))
        if self.field not in rows:
            raise MissingError(f"it looks at {self.field}, and real samples are {', '.join(rows)}")
        vectors = rows[self.field].reshape(count, -1).astype(np.float64)
        return vectors[: count // 2], vectors[count // 2 :]

    def _stored(self, samples: SampleSet, count: int, session: Session, *, whose: str) -> np.ndarray:
        """Return the first vectors of a set, float64 (count, d), the same on every process. A collective."""
        found: dict[int, Tensor] = {}
        names = ""
        with together(session, doing=f"to draw the {whose} samples"):
            for part in samples.parts(count=count, rank=session.rank, world=session.world):
                names = ", ".join(part.samples)
                if self.field in part.samples:
                    found[part.start] = part.samples[self.field].flatten(1).double()
        # A process that has had no batch learns from the others how long the vectors are.
        dims = int(session.max_over_ranks(float(max((rows.shape[1] for rows in found.values()), default=0))))
        if dims == 0:
            raise MissingError(f"it looks at {self.field}, and {whose} samples are {names or 'others'}")
        vectors = torch.zeros(count, dims, dtype=torch.float64)
        for start, rows in found.items():
            vectors[start : start + len(rows)] = rows[: count - start]
        vectors = summed(session, vectors)  # each row is one process's, and zero elsewhere
        if not bool(vectors.isfinite().all()):
            raise MissingError(f"some {whose} samples are no finite numbers")
        return vectors.numpy()


def earth_movers_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return W1 of two sets of n vectors each, float64 (n, d), under the Euclidean distance; exact.

    The cheapest assignment is found by the algorithm of Crouse (2016, doi:10.1109/TAES.2016.140952), as scipy has it.
    """
    from scipy.optimize import linear_sum_assignment

    distances = np.stack([np.sqrt(np.square(b - vector).sum(1)) for vector in a])
    rows, columns = linear_sum_assignment(distances)
    return float(distances[rows, columns].mean())
