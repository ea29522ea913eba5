"""The mean absolute difference of generated pictures and their targets, of image-to-image translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.evaluation.errors import EvaluationError
from framework.evaluation.metrics.sample import SampleMetric

_LARGEST_PIXEL = 255


@dataclass(frozen=True, kw_only=True)
class PairedL1(SampleMetric):
    """The mean over samples, channels and pixels of |generated - target|, with pixels from 0 to 1.

    A pix2pix loss (Isola et al. 2017, arXiv:1611.07004, equation 3) with pixels from -1 to 1 is twice as large. Whole
    numbers are added up, so the value is the same to the bit for any number of processes.
    """

    name = "paired_l1"
    definition = "mean |generated - target| over samples, channels and pixels of uint8 pictures, from 0 to 1"
    samples = ("generated", "target")

    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of differences from 0 to 255, and their number; both pictures are uint8 (n, C, H, W).

        Raises:
            EvaluationError: the pictures are not uint8, or of two shapes.
        """
        generated, target = samples["generated"], samples["target"]
        for name, pictures in (("generated", generated), ("target", target)):
            if pictures.dtype != torch.uint8:
                raise EvaluationError(f"{name} is {pictures.dtype}, must be uint8 pictures")
        if generated.shape != target.shape:
            raise EvaluationError(f"generated is {tuple(generated.shape)}, target {tuple(target.shape)}: not pairs")
        differences = (generated.int() - target.int()).abs()
        number = torch.tensor(float(differences.numel()), dtype=torch.float64)
        return {"sum": differences.sum().double(), "number": number}

    def value(self, sums: Mapping[str, Tensor]) -> float:
        """Return the mean difference."""
        return float(sums["sum"] / (_LARGEST_PIXEL * sums["number"]))
