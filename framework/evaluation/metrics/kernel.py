"""Kernel Inception Distance (Binkowski et al. 2018, arXiv:1801.01401): squared MMD with a cubic polynomial kernel.

k(x, y) = (x . y / D + 1)^3. The unbiased estimator is averaged over random subsets; subsets, their size and their
order of drawing are torch-fidelity's, so that equal features give an equal number. Work is shared by subsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.metrics.base import ComparingMetric, Measured, MetricInputs
from framework.runtime.collectives import summed
from framework.runtime.session import Session
from framework.utils.progress import show_progress


class KernelDistance(ComparingMetric):
    """The kernel distance under an extractor that is not FID's."""

    name = "kd"
    definition = "unbiased squared MMD, (x.y/D + 1)^3, mean over subsets (arXiv:1801.01401)"
    options_from = ("kid_subsets", "kid_subset_size", "seed", "held")
    inception = False
    counterpart: ClassVar[str] = "kid"

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the mean over subsets, with its standard deviation."""
        found = kernel_distance(
            *self.features(inputs),
            subsets=inputs.settings.kid_subsets,
            subset_size=inputs.settings.kid_subset_size,
            seed=inputs.settings.seed,
            session=inputs.session,
            shown_as=inputs.shown_as,
        )
        return {self.name: Measured(value=found.mean, details={"std": found.std, "subset_size": found.subset_size})}


class KID(KernelDistance):
    """The Kernel Inception Distance."""

    name = "kid"
    inception = True
    counterpart = "kd"


@dataclass(frozen=True, kw_only=True)
class KernelEstimate:
    """Mean and standard deviation over subsets of `subset_size` images a side."""

    mean: float
    std: float
    subset_size: int


def kernel_distance(
    fake: Tensor, real: Tensor, *, subsets: int, subset_size: int, seed: int, session: Session, shown_as: str = ""
) -> KernelEstimate:
    """Return the KID of features (N, D) and (M, D), the same on every rank. A collective.

    Args:
        subsets: number of random subsets.
        subset_size: largest number of images in a subset; smaller sets are used whole.
        seed: seed of the subsets.
        shown_as: title under which rank 0 shows how far it is; empty shows nothing.

    Raises:
        MissingError: a set has fewer than 2 images.
    """
    size = min(subset_size, len(fake), len(real))
    if size < 2:
        raise MissingError(f"KID needs at least 2 images a side, there are {len(fake)} and {len(real)}")
    draw = np.random.RandomState(seed)
    found = torch.zeros(subsets, dtype=torch.float64)
    with show_progress(shown_as, total=subsets, enabled=bool(shown_as) and session.is_main, unit="subsets") as advance:
        for index in range(subsets):
            of_fake, of_real = (draw.choice(len(rows), size, replace=False) for rows in (fake, real))
            if index % session.world == session.rank:
                x, y = fake[of_fake].to(session.device).double(), real[of_real].to(session.device).double()
                found[index] = _squared_mmd(x, y)
                advance(session.world)
    found = summed(session, found)
    return KernelEstimate(mean=float(found.mean()), std=float(found.std(correction=0)), subset_size=size)


def _squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased estimate, a scalar, for x and y (n, D).

    This is the paper's equation 4 with equal sizes: pairs of a sample with itself are left out.
    """
    size = len(x)
    within = sum((k.sum() - k.diagonal().sum()) / (size * (size - 1)) for k in (_kernel(x, x), _kernel(y, y)))
    return within - 2.0 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1.0) ** 3
