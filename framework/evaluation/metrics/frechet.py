"""Frechet distances of two Gaussians fitted to features, of all images or class by class (FID: arXiv:1706.08500)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.extract import Needs, too_many_classes
from framework.evaluation.metrics.base import FeatureMetric, Measured, MetricInputs, Settings
from framework.evaluation.moments import Moments
from framework.runtime.collectives import summed
from framework.runtime.session import Session
from framework.utils.progress import show_progress

_FRECHET = "Frechet distance of two Gaussians, covariances over n - 1 (arXiv:1706.08500)"


class FrechetDistance(FeatureMetric):
    """The Frechet distance under an extractor that is not FID's."""

    name = "fd"
    definition = _FRECHET
    inception = False
    counterpart: ClassVar[str] = "fid"

    def needs(self, *, count: int, settings: Settings) -> Needs:
        """Ask for the moments of the judged images."""
        return Needs(moments=frozenset([count]))

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the distance."""
        pair = (inputs.judged.moments[inputs.count], inputs.real.moments[inputs.real_count])
        return {self.name: Measured(value=float(frechet_distances([pair], session=inputs.session)))}


class FID(FrechetDistance):
    """The Frechet Inception Distance (Heusel et al. 2017)."""

    name = "fid"
    inception = True
    counterpart = "fd"


class FrechetDistanceByClass(FeatureMetric):
    """The mean over classes of the Frechet distance, under an extractor that is not FID's."""

    name = "fd_by_class"
    definition = f"mean over classes of the {_FRECHET}"
    inception = False
    counterpart: ClassVar[str] = "fid_by_class"

    def obstacle(self, *, classes: int, num_features: int) -> str | None:
        """Return why the classes cannot be compared: there are none, or their moments would not fit into memory."""
        return too_many_classes(classes, num_features) if classes else "the images have no classes"

    def needs(self, *, count: int, settings: Settings) -> Needs:
        """Ask for the moments by class of the judged images."""
        return Needs(by_class=count)

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the mean of the distances; `details` holds the distance of each class."""
        sides = (inputs.judged.by_class, inputs.real.by_class)
        pairs = list(zip(*sides, strict=True))
        distances = frechet_distances(pairs, session=inputs.session, shown_as=inputs.shown_as)
        fewest = [min(moments.count for moments in side) for side in sides]
        details = {"classes": distances.tolist(), "fewest_images": fewest[0], "fewest_real_images": fewest[1]}
        return {self.name: Measured(value=float(distances.mean()), details=details)}


class FIDByClass(FrechetDistanceByClass):
    """The mean over classes of the Frechet Inception Distance."""

    name = "fid_by_class"
    inception = True
    counterpart = "fd_by_class"


def frechet_distances(pairs: Sequence[tuple[Moments, Moments]], *, session: Session, shown_as: str = "") -> Tensor:
    """Return the Frechet distance of each pair, (len(pairs),) float64; the ranks share the work. A collective.

    Args:
        shown_as: title under which rank 0 shows how far it is; empty shows nothing.

    Raises:
        MissingError: a side has fewer than 2 images.
    """
    found, shown = torch.zeros(len(pairs), dtype=torch.float64), bool(shown_as) and session.is_main
    with show_progress(shown_as, total=len(pairs), enabled=shown, unit="classes") as advance:
        for index, (a, b) in enumerate(pairs):
            if min(a.count, b.count) < 2:  # checked before the work is shared: every rank must come to the sum
                raise MissingError(f"a covariance needs at least 2 images, there are {a.count} and {b.count}")
            if index % session.world == session.rank:
                found[index] = frechet_distance(a, b)
                advance(session.world)
    return summed(session, found)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) for the covariances A, B.

    The trace of (A B)^(1/2) is the sum of the singular values of Fa^T Fb where A = Fa Fa^T and B = Fb Fb^T: unlike the
    square root of a product of matrices, this is exact to rounding also for fewer samples than dimensions.

    Raises:
        MissingError: a set of fewer than 2 samples has no covariance.
    """
    if min(a.count, b.count) < 2:
        raise MissingError(f"a covariance needs at least 2 images, there are {a.count} and {b.count}")
    difference = a.mean - b.mean
    shared = torch.linalg.svdvals(a.factor().T @ b.factor()).sum()
    spread = a.covariance.trace() + b.covariance.trace()
    return float(difference @ difference + spread - 2.0 * shared)
