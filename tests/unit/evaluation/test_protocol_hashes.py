"""The keys of the metrics' records, as they were when records were first kept: old lines in plots must go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from torch import nn

from framework.evaluation import protocol
from framework.evaluation.extractors.base import INCEPTION, Extractor, Identity
from framework.evaluation.extractors.lpips import Perceptual
from framework.evaluation.generated import GeneratedSamples
from framework.evaluation.metrics import Settings, parse_metrics
from framework.evaluation.models import EvaluationModels
from framework.evaluation.plan import EvaluationPlan
from framework.sampling.sampler import LatentSampler
from tests.helpers.judged import SmallGenerator

VERSIONS = {"definitions": 1, "torch": "2.0.0", "numpy": "2.0.0", "pillow": "11.0.0"}
RECORDED = {
    "inception": [
        "fid-b3eb47ae",
        "fid10k-740b78a5",
        "fid_by_class-c387b0b1",
        "kid50k-2800346f",
        "precision-4e985ad1",
        "recall-b6f39d00",
        "density-0b1888fd",
        "coverage-83a38c03",
        "is-9e8d75dc",
        "ppl-908d0456",
        "lpips-8a2d3876",
    ],
    "another": [
        "fd_vgg16-7c54a84e",
        "fd_by_class_vgg16-01c44fc1",
        "kd_vgg16_10k-f32a72e1",
        "precision_vgg16_10k-60fdfc74",
        "recall_vgg16_10k-3e414394",
        "density_vgg16_500-4df55c89",
        "coverage_vgg16_500-84368850",
    ],
    "truncated": ["fid50k-7835e8a6"],
    "style": ["fid50k-3cbef431", "precision50k-98d06c4d", "recall50k-ac2ea40f"],
}


class Reals:
    """A real set by its description."""

    count, classes, endless, picture = 60_000, 10, False, "image"

    def describe(self) -> Mapping[str, Any]:
        return {
            "kind": "shards",
            "name": "fashion",
            "split": "train",
            "fingerprint": "ab12",
            "resolution": [32, 32],
            "stored_resolution": 28,
            "resize_filter": "lanczos",
            "encoding": "png",
            "order": "seed 0, window 4096, lanes 16",
        }

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Any]:
        raise NotImplementedError


def models(name: str) -> EvaluationModels:
    identity = Identity(name=name, layer="2048", input="RGB", weights_sha256="aa", tensors_sha256="bb")
    return EvaluationModels(
        extractor_name=name,
        extractor=Extractor(identity=identity, network=nn.Identity(), dim=2048),
        lpips=Perceptual(network=nn.Identity(), weights_sha256="cc", tensors_sha256="dd"),  # type: ignore[arg-type]
    )


def keys(text: str, *, extractor: str, **changes: Any) -> list[str]:
    weights = changes.pop("weights", "ema")
    sampler, notes = LatentSampler(**changes), {"resolution": [32, 32]}
    plan = EvaluationPlan(
        samples=GeneratedSamples(network=SmallGenerator(), sampler=sampler, weights=weights, notes=notes),
        reference=Reals(),
        metrics=parse_metrics(text),
        models=models(extractor),
        settings=Settings(),
        reference_count=50_000,
    )
    return [key for metric in plan.metrics for key in plan.keys(metric)]


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "versions", lambda: dict(VERSIONS))


def test_keys_of_metrics() -> None:
    conditional = {"classes": 10, "label_shares": (1.0,) * 10}
    found = {
        "inception": keys("fid,fid10k,fid_by_class,kid50k,pr,dc,is,ppl,lpips", extractor=INCEPTION, **conditional),
        "another": keys("fd,fd_by_class,kd10k,pr10k,dc500", extractor="torch-fidelity/vgg16", **conditional),
        "truncated": keys("fid50k", extractor=INCEPTION, truncation=0.5, seed=1, weights="live"),
        "style": keys("fid50k,pr50k", extractor=INCEPTION, options={"psi": 0.7}),
    }
    assert found == RECORDED
