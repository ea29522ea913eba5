"""Modes of a mixture of Gaussians that samples hit, the figures of toy problems (ring of 8, grid of 25)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from framework.evaluation.errors import EvaluationError, MissingError
from framework.evaluation.metrics.sample import SampleMetric
from framework.recipe.checks import check_fields, require
from framework.utils.ranges import Range

_WITHIN_STDS = 3.0


@dataclass(frozen=True, kw_only=True)
class MixtureMetric(SampleMetric):
    """What metrics of a mixture of equal Gaussians count: how many samples are good for which mode.

    A sample is good when it lies within three standard deviations of a centre; it counts for the nearest one.

    Raises:
        RecipeError: there are no centres, or they differ in length.
        FrameworkError: a number that is out of range.
    """

    samples = ("point",)
    default_count = 2_500

    centres: tuple[tuple[float, ...], ...]
    """The means of the Gaussians, one tuple of coordinates each."""
    std: Annotated[float, Range(above=0)]
    """The standard deviation of each Gaussian in every direction."""

    def __post_init__(self) -> None:
        check_fields(self)
        lengths = {len(centre) for centre in self.centres}
        require(len(lengths) == 1, f"{type(self).__name__}: centres={self.centres} must be points of one length")

    @property
    def radius(self) -> float:
        """The distance from a centre within which a sample is good."""
        return _WITHIN_STDS * self.std

    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the good samples of each mode, (modes,), and the number of samples; points are (n, d) float32.

        Raises:
            EvaluationError: points have another number of coordinates than the centres.
        """
        points, centres = samples["point"].double(), torch.tensor(self.centres, dtype=torch.float64)
        if points.shape[1:] != centres.shape[1:]:
            raise EvaluationError(f"samples are {tuple(points.shape[1:])}, the centres have {centres.shape[1]} numbers")
        distances = (points[:, None] - centres).square().sum(2).sqrt()
        nearest = distances.min(1)
        good = nearest.values <= self.radius
        hits = torch.bincount(nearest.indices[good], minlength=len(centres))
        return {"good": hits.double(), "count": torch.tensor(float(len(points)), dtype=torch.float64)}


@dataclass(frozen=True, kw_only=True)
class ModesHit(MixtureMetric):
    """The number of modes with enough samples near them, and the share of samples that are near a mode.

    A sample is good when it lies within three standard deviations of a centre; it counts for the nearest one. VEEGAN
    (Srivastava et al. 2017, arXiv:1705.07761, section 4.1) counts a mode as lost when no sample is good for it, among
    2,500; its table has the numbers of Unrolled GAN (Metz et al. 2016, arXiv:1611.02163), too.

    Raises:
        RecipeError: there are no centres, or they differ in length.
        FrameworkError: a number that is out of range.
    """

    name = "modes_hit"
    definition = (
        "modes with at least `least` samples within 3 standard deviations of the centre that is nearest, and the share "
        "of such samples (arXiv:1705.07761, section 4.1)"
    )
    higher_is_better = ("modes_hit", "good_share")

    least: Annotated[int, Range(least=1)] = 1
    """Number of good samples from which a mode is hit."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The number of modes hit, and the share of good samples in [0, 1]."""
        return ("modes_hit", "good_share")

    def value(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return both outputs."""
        hit = (sums["good"] >= self.least).sum()
        return {"modes_hit": float(hit), "good_share": float(sums["good"].sum() / sums["count"])}


@dataclass(frozen=True, kw_only=True)
class ModesKL(MixtureMetric):
    """How unevenly good samples fall on the modes: KL(samples || mixture) over the modes, by the natural logarithm.

    The histogram of the good samples stands first, as in the literature's "reverse KL" (Metz et al. 2016,
    arXiv:1611.02163, section 3.3.1): a mode without a sample adds nothing, and for equal shares the value is at most
    the logarithm of the number of modes. N samples of the mixture itself give about (modes - 1) / (2 N), and not 0.

    Raises:
        RecipeError: there are no centres, they differ in length, or `shares` are not one positive number for each.
        FrameworkError: a number that is out of range.
    """

    name = "modes_kl"
    definition = (
        "KL(p || q) with the natural logarithm: p is the histogram over the modes of the samples within 3 standard "
        "deviations of the centre that is nearest, q is `shares`, or uniform (arXiv:1611.02163, section 3.3.1)"
    )

    shares: Annotated[tuple[float, ...], Range(above=0)] = ()
    """The mixture's weight of each mode, in any unit: they are divided by their sum; (): all modes have the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.shares) in (0, len(self.centres))
        require(fits, f"ModesKL: shares={self.shares} must be one number for each of {len(self.centres)} centres")

    def value(self, sums: Mapping[str, Tensor]) -> float:
        """Return the divergence.

        Raises:
            MissingError: no sample is good.
        """
        shares = torch.tensor(self.shares, dtype=torch.float64) if self.shares else None
        return divergence(sums["good"], shares, of="good sample")


def divergence(counts: Tensor, shares: Tensor | None = None, *, of: str = "sample") -> float:
    """Return KL(counts || shares) in nats, both taken as distributions; of no shares, of the uniform distribution.

    Args:
        counts: how often each of k outcomes was found, float64 (k,).
        shares: positive weights, float64 (k,).
        of: what was counted, for the message.

    Raises:
        MissingError: nothing was counted.
    """
    total = float(counts.sum())
    if total == 0:
        raise MissingError(f"there is no {of}, so there is no histogram to compare")
    weights = torch.ones_like(counts) if shares is None else shares
    # In the order of the outcomes and by `fsum`, so that no order of adding up shows in the last digits.
    pairs = zip((counts / total).tolist(), (weights / weights.sum()).tolist(), strict=True)
    return math.fsum(p * math.log(p / q) for p, q in pairs if p)
