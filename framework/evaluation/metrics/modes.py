"""Modes of a mixture of Gaussians that samples hit, the figure of toy problems (ring of 8, grid of 25)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from framework.evaluation.metrics.sample import SampleMetric
from framework.recipe.checks import check_fields, require
from framework.utils.ranges import Range

_WITHIN_STDS = 3.0


@dataclass(frozen=True, kw_only=True)
class ModesHit(SampleMetric):
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
    samples = ("point",)
    default_count = 2_500
    higher_is_better = ("modes_hit", "good_share")

    centres: tuple[tuple[float, ...], ...]
    """The means of the Gaussians, one tuple of coordinates each."""
    std: Annotated[float, Range(above=0)]
    """The standard deviation of each Gaussian in every direction."""
    least: Annotated[int, Range(least=1)] = 1
    """Number of good samples from which a mode is hit."""

    def __post_init__(self) -> None:
        check_fields(self)
        lengths = {len(centre) for centre in self.centres}
        require(len(lengths) == 1, f"ModesHit: centres={self.centres} must be points of one length")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The number of modes hit, and the share of good samples in [0, 1]."""
        return ("modes_hit", "good_share")

    @property
    def radius(self) -> float:
        """The distance from a centre within which a sample is good."""
        return _WITHIN_STDS * self.std

    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the good samples of each mode, (modes,), and the number of samples; points are (n, d) float32."""
        points, centres = samples["point"].double(), torch.tensor(self.centres, dtype=torch.float64)
        distances = (points[:, None] - centres).square().sum(2).sqrt()
        nearest = distances.min(1)
        good = nearest.values <= self.radius
        hits = torch.bincount(nearest.indices[good], minlength=len(centres))
        return {"good": hits.double(), "count": torch.tensor(float(len(points)), dtype=torch.float64)}

    def value(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return both outputs."""
        hit = (sums["good"] >= self.least).sum()
        return {"modes_hit": float(hit), "good_share": float(sums["good"].sum() / sums["count"])}
