"""Path length and diversity with a distance that can be computed by hand; other extractors by way of torch-fidelity."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from framework.evaluation.errors import EvaluationError, MissingError
from framework.evaluation.extractors.choose import open_extractor
from framework.evaluation.generated import GeneratedSamples
from framework.evaluation.images import FolderImages
from framework.evaluation.metrics.perceptual import diversity, path_length
from framework.sampling.sampler import LatentSampler
from tests.helpers.fidelity import torch_fidelity
from tests.helpers.judged import ALONE, CLASSES, pictures


class Plain(nn.Module):
    """In LPIPS's place: the mean squared difference of pixels."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean((1, 2, 3))


class Flat(nn.Module):
    """One colour an image: tanh(first latent) and a shift by class."""

    z_dim = 3

    def __init__(self, *, spread: float = 1.0) -> None:
        super().__init__()
        self.spread = nn.Parameter(torch.tensor(spread))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        shift = 0.0 if labels is None else 0.1 * labels.float()
        return (torch.tanh(self.spread * z[:, 0]) * 0.5 + shift).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def levels(values: Tensor) -> Tensor:
    return (values * 127.5 + 127.5).round()


def test_path_length_is_the_mean_without_the_outer_percentiles() -> None:
    network, sampler = Flat(), LatentSampler(seed=2)
    images = GeneratedSamples(network=network, sampler=sampler)
    mean, std = path_length(images, Plain(), count=200, epsilon=0.1, session=ALONE)
    begin, end = (sampler.latents(network, range(200), purpose=f"evaluation/path/{side}")[:, 0] for side in (0, 1))
    along = begin + 0.1 * (end - begin)
    squared = (levels(torch.tanh(begin) * 0.5) - levels(torch.tanh(along) * 0.5)).square()
    distances = np.sort(squared.double().numpy()) / 0.1**2
    kept = distances[(distances >= distances[1]) & (distances <= distances[198])]  # 1 % of 200 at each end
    assert mean == pytest.approx(kept.mean(), rel=1e-6)
    assert std == pytest.approx(kept.std(), rel=1e-6)
    assert mean > 10


def test_a_path_needs_a_generator(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="checkpoint"):
        path_length(FolderImages(pictures(tmp_path / "x", count=4, seed=1)), Plain(), count=2, epsilon=1, session=ALONE)


def test_diversity_is_inside_a_class_and_falls_with_collapse() -> None:
    network, sampler = Flat(), LatentSampler(seed=2, classes=CLASSES)
    images = GeneratedSamples(network=network, sampler=sampler)
    mean, _ = diversity(images, Plain(), count=131, session=ALONE)  # the odd one is left out
    paired = replace(sampler, pairs=True)
    with torch.no_grad():
        colours = levels(network(paired.latents(network, range(130)), paired.labels(range(130)))[:, 0, 0, 0])
    assert mean == pytest.approx(float((colours[0::2] - colours[1::2]).square().mean()), rel=1e-6)
    collapsed = GeneratedSamples(network=Flat(spread=0.0), sampler=sampler)
    assert diversity(collapsed, Plain(), count=60, session=ALONE) == (0.0, 0.0)
    with pytest.raises(MissingError, match="at least 2"):
        diversity(images, Plain(), count=1, session=ALONE)


def test_torch_fidelitys_extractors_by_name() -> None:
    registry = torch_fidelity("registry")
    base = torch_fidelity("feature_extractor_base").FeatureExtractorBase

    class Means(base):  # type: ignore[misc, valid-type]
        """A real torch-fidelity extractor of our own: registered, with its interface, without a download."""

        def __init__(self, name: str, features_list: list[str], **options: object) -> None:
            super().__init__(name, features_list)
            self.register_buffer("scale", torch.tensor(2.0))

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("means",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "means"

        def forward(self, images: Tensor) -> tuple[Tensor]:
            return (images.float().mean((2, 3)) * self.scale,)

    if "means-of-colours" not in registry.FEATURE_EXTRACTORS_REGISTRY:
        registry.register_feature_extractor("means-of-colours", Means)
    extractor = open_extractor("means-of-colours", session=ALONE)
    assert extractor.identity.name == "torch-fidelity/means-of-colours"
    assert extractor.dim == 3
    images = torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)
    assert torch.equal(extractor(images)[0], torch.full((2, 3), 14.0))
    with pytest.raises(EvaluationError, match=r"no such one.*means-of-colours"):
        open_extractor("means-of-colour", session=ALONE)
    with pytest.raises(EvaluationError, match="take none here"):
        open_extractor("means-of-colours", weights=Path("x.pth"), session=ALONE)


def test_without_torch_fidelity_they_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_fidelity"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)  # an import of it fails
    with pytest.raises(MissingError, match=r"framework\[evaluation\]"):
        open_extractor("dinov2-vit-b-14", session=ALONE)
