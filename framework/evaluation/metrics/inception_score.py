"""Inception Score (Salimans et al. 2016, arXiv:1606.03498): exp of the mean KL(p(y|x) || p(y)), over splits.

Shuffling, splits and the classifier without its bias are those of the reference, as in torch-fidelity.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.extract import Needs
from framework.evaluation.metrics.base import FeatureMetric, Measured, MetricInputs, Settings


class InceptionScore(FeatureMetric):
    """The Inception Score."""

    name = "is"
    definition = "Inception Score, logits without bias, mean over splits (arXiv:1606.03498)"
    compares_with_real = False
    options_from = ("splits", "seed", "held")
    inception = True

    def needs(self, *, count: int, settings: Settings) -> Needs:
        """Ask for the classifier's logits of the judged images."""
        return Needs(logits=min(settings.held, count))

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the mean over splits, with its standard deviation."""
        logits, settings = inputs.judged.logits, inputs.settings
        if logits is None:
            raise MissingError("the Inception Score needs the classifier's weights (fc.weight), which end at pool3")
        mean, std = inception_score(logits[: inputs.count], splits=settings.splits, seed=settings.seed)
        return {self.name: Measured(value=mean, details={"std": std})}


def inception_score(logits: Tensor, *, splits: int, seed: int) -> tuple[float, float]:
    """Return the score's mean and standard deviation over splits, from logits (N, classes).

    Args:
        splits: number of parts of N / splits images.
        seed: seed of the shuffle before splitting.

    Raises:
        MissingError: there are fewer images than splits.
    """
    if len(logits) < splits:
        raise MissingError(f"{splits} splits need at least as many images, there are {len(logits)}")
    shuffled = logits[torch.from_numpy(np.random.RandomState(seed).permutation(len(logits)))].double()
    scores = []
    for split in range(splits):
        part = shuffled[split * len(logits) // splits : (split + 1) * len(logits) // splits]
        log_p = part.log_softmax(1)
        p = log_p.exp()
        scores.append((p * (log_p - p.mean(0, keepdim=True).log())).sum(1).mean().exp())
    found = torch.stack(scores)
    return float(found.mean()), float(found.std(correction=0))
