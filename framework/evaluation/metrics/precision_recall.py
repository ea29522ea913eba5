"""Fidelity and diversity from nearest neighbours in feature space.

Improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991): a set's manifold is the union of balls
around its samples, each as large as the distance to the k-th nearest of the others; precision is the share of generated
images on the real manifold, recall the share of real images on the generated one. Density and coverage (Naeem et al.
2020, arXiv:2002.09797) count balls instead, which outliers disturb less.

Distances are float64 and computed in tiles of fixed size, which the ranks share: the result does not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.metrics.base import ComparingMetric, Measured, MetricInputs
from framework.runtime.collectives import summed
from framework.runtime.session import Session
from framework.utils.progress import Advance, show_progress

_TILE_ROWS = 512


class PrecisionRecall(ComparingMetric):
    """Improved precision and recall."""

    name = "pr"
    definition = "improved precision and recall (arXiv:1904.06991)"
    options_from = ("neighbours", "held")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Precision and recall."""
        return ("precision", "recall")

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return both shares."""
        fake, real = self.features(inputs)
        shown_as, neighbours = inputs.shown_as, inputs.settings.neighbours
        found = precision_recall(fake, real, neighbours=neighbours, session=inputs.session, shown_as=shown_as)
        return {name: Measured(value=value) for name, value in asdict(found).items()}


class DensityCoverage(ComparingMetric):
    """Density and coverage."""

    name = "dc"
    definition = "density and coverage (arXiv:2002.09797)"
    options_from = ("balls", "held")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Density and coverage."""
        return ("density", "coverage")

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return both numbers."""
        fake, real = self.features(inputs)
        shown_as, neighbours = inputs.shown_as, inputs.settings.balls
        found = density_coverage(fake, real, neighbours=neighbours, session=inputs.session, shown_as=shown_as)
        return {name: Measured(value=value) for name, value in asdict(found).items()}


@dataclass(frozen=True, kw_only=True)
class OnManifolds:
    """Improved precision and recall, shares in [0, 1]."""

    precision: float
    recall: float


@dataclass(frozen=True, kw_only=True)
class InBalls:
    """Density (0 and up, 1 for equal distributions) and coverage in [0, 1]."""

    density: float
    coverage: float


def precision_recall(
    fake: Tensor, real: Tensor, *, neighbours: int, session: Session, shown_as: str = ""
) -> OnManifolds:
    """Return improved precision and recall of features (N, D) and (M, D), the same on every rank. A collective.

    Args:
        neighbours: k; the balls reach to the k-th nearest other sample.
        shown_as: title under which rank 0 shows how far it is; empty shows nothing.

    Raises:
        MissingError: a set has no more images than `neighbours`.
    """
    _check(fake, real, neighbours)
    total = 2 * (len(fake) + len(real))
    with show_progress(shown_as, total=total, enabled=bool(shown_as) and session.is_main) as advance:
        on_real = _near(fake, real, _radii(real, neighbours, session, advance), session, advance)
        on_fake = _near(real, fake, _radii(fake, neighbours, session, advance), session, advance)
    return OnManifolds(precision=float(on_real.mean()), recall=float(on_fake.mean()))


def density_coverage(fake: Tensor, real: Tensor, *, neighbours: int, session: Session, shown_as: str = "") -> InBalls:
    """Return density and coverage of features (N, D) and (M, D), the same on every rank. A collective.

    Args:
        neighbours: k; the balls reach to the k-th nearest other sample.
        shown_as: title under which rank 0 shows how far it is; empty shows nothing.

    Raises:
        MissingError: a set has no more images than `neighbours`.
    """
    _check(fake, real, neighbours)
    total = len(fake) + 2 * len(real)
    with show_progress(shown_as, total=total, enabled=bool(shown_as) and session.is_main) as advance:
        radii = _radii(real, neighbours, session, advance)
        balls, nearest = torch.zeros(len(fake)).double(), torch.zeros(len(real)).double()
        for rows, distances in _tiles(fake, real, session, advance):
            balls[rows] = (distances < radii.to(distances.device)).double().sum(1).cpu()
        for rows, distances in _tiles(real, fake, session, advance):
            nearest[rows] = distances.min(1).values.cpu()
    covered = summed(session, nearest) < radii
    density = summed(session, balls).sum() / (neighbours * len(fake))
    return InBalls(density=float(density), coverage=float(covered.double().mean()))


def _check(fake: Tensor, real: Tensor, neighbours: int) -> None:
    if min(len(fake), len(real)) <= neighbours:
        raise MissingError(f"{neighbours} neighbours need more images than {len(fake)} and {len(real)}")


def _radii(points: Tensor, neighbours: int, session: Session, advance: Advance) -> Tensor:
    """Return the distance of each point to its k-th nearest other point, (N,) float64 on the host.

    The nearest of all is the point itself, and is not counted.
    """
    radii = torch.zeros(len(points), dtype=torch.float64)
    for rows, distances in _tiles(points, points, session, advance):
        radii[rows] = distances.kthvalue(neighbours + 1, dim=1).values.cpu()
    return summed(session, radii)


def _near(points: Tensor, centres: Tensor, radii: Tensor, session: Session, advance: Advance) -> Tensor:
    """Return 1 for each point (N, D) that lies in a ball around any centre (M, D), else 0: (N,) float64."""
    inside = torch.zeros(len(points), dtype=torch.float64)
    for rows, distances in _tiles(points, centres, session, advance):
        inside[rows] = (distances <= radii.to(distances.device)).any(1).double().cpu()
    return summed(session, inside)


def _tiles(points: Tensor, others: Tensor, session: Session, advance: Advance) -> Iterator[tuple[slice, Tensor]]:
    """Yield this rank's tiles of the matrix of distances: rows, and distances (len(rows), len(others)) float64."""
    columns = others.to(session.device).double()
    squares = columns.square().sum(1)
    starts = range(0, len(points), _TILE_ROWS)
    for start in starts[session.rank :: session.world]:
        rows = slice(start, min(start + _TILE_ROWS, len(points)))
        tile = points[rows].to(session.device).double()
        squared = torch.addmm(squares + tile.square().sum(1, keepdim=True), tile, columns.T, alpha=-2.0)
        yield rows, squared.clamp_min_(0.0).sqrt_()
        advance((rows.stop - rows.start) * session.world)
