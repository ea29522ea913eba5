"""Modes of stacked pictures that samples hit: the figures of the thousand-mode toy problem."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framework.evaluation.errors import EvaluationError
from framework.evaluation.extractors import fashion
from framework.evaluation.extractors.base import plain_float32, tensors_sha256
from framework.evaluation.metrics.base import Settings
from framework.evaluation.metrics.modes import divergence
from framework.evaluation.metrics.sample import SampleMetric
from framework.evaluation.weights import load_weights

CHANNELS = 3
MODES = fashion.CLASSES**CHANNELS


@dataclass(frozen=True, kw_only=True)
class StackedModes(SampleMetric):
    """How many of the 1,000 modes of stacked pictures are hit, and how unevenly, as a classifier of each channel says.

    A sample is an RGB picture whose channels are three grey pictures of ten classes (`Stacked`), and its mode is the
    three classes together: Metz et al. 2016, arXiv:1611.02163, section 3.3.1, with digits, among 25,600 samples. VEEGAN
    (arXiv:1705.07761) and PacGAN (arXiv:1712.04086) take 26,000: `count=26_000`. The divergence is KL(samples ||
    uniform) by the natural logarithm, at most ln 1000 = 6.91. N samples whose modes are uniform give about
    (modes - 1) / (2 N), 0.0195 of 25,600, and not 0. A classifier that errs adds to it, so compare with what the real
    data gives, and never with values by another classifier.

    Raises:
        FrameworkError: the weights cannot be read, or are another network's.
    """

    name = "stacked_modes"
    definition = (
        "modes of 1000 with at least one sample, where a sample's mode is the classes of its three channels, and "
        "KL(samples || uniform) over the modes with the natural logarithm (arXiv:1611.02163, section 3.3.1)"
    )
    samples = ("image",)
    default_count = 25_600
    higher_is_better = ("stacked_modes",)

    weights: str = ""
    """File of another classifier of ten classes, such as of digits, which `python -m benchmarks.fashion_classifier`
    trains on any packed set; "": the one of Fashion-MNIST that ships with the package."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The number of modes hit, and the divergence in nats."""
        return ("stacked_modes", "stacked_kl")

    def options(self, settings: Settings) -> dict[str, Any]:
        """Return what identifies the classifier, whatever file it came in, for the protocol."""
        _, sha256 = _classifier(self.weights)
        name = fashion.NAME if not self.weights else "classifier of the user's own"
        classifier = {"name": name, "input": f"each channel: {fashion.INPUT}", "tensors_sha256": sha256}
        return json.loads(json.dumps({"classifier": classifier, "higher_is_better": self.higher_is_better}))

    @torch.no_grad()
    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return how many pictures, uint8 (n, 3, H, W), fall on each mode, (1000,).

        Raises:
            EvaluationError: the pictures are of another type, or have other channels.
        """
        pictures = samples["image"]
        if pictures.dtype != torch.uint8 or pictures.dim() != 4 or pictures.shape[1] != CHANNELS:
            found = f"{pictures.dtype} {tuple(pictures.shape[1:])}"
            raise EvaluationError(f"samples are {found}, must be uint8 pictures of {CHANNELS} channels")
        network, _ = _classifier(self.weights)
        with plain_float32(torch.device("cpu")):
            classes = network(pictures.flatten(0, 1)[:, None])[1].argmax(1).view(-1, CHANNELS)
        modes = classes @ torch.tensor([fashion.CLASSES**place for place in reversed(range(CHANNELS))])
        return {"modes": torch.bincount(modes, minlength=MODES).double()}

    def value(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return both outputs.

        Raises:
            MissingError: there is no sample.
        """
        return {"stacked_modes": float((sums["modes"] > 0).sum()), "stacked_kl": divergence(sums["modes"])}


@functools.lru_cache(maxsize=4)
def _classifier(weights: str) -> tuple[fashion.FashionClassifier, str]:
    """Return the network of a file, and the hash of its tensors."""
    state = load_weights(Path(weights) if weights else fashion.WEIGHTS, containing="linear.weight").state
    try:
        return fashion.FashionClassifier.from_state(state), tensors_sha256(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise EvaluationError(f"{weights}: holds the weights of another network ({reason})") from None
