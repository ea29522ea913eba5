"""Metrics that are sums over samples: known answers, one pass for all, and what one that fails costs the others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from framework.evaluation import GeneratedSamples, SampleMetric, evaluate, parse_metrics
from framework.evaluation.errors import EvaluationError
from framework.evaluation.extract import beside_real
from framework.evaluation.images import ArrayImages, FolderImages, Part
from framework.evaluation.metrics import Metric, ModesHit, PairedL1, checked_metrics
from framework.evaluation.metrics.frechet import FID, frechet_distance
from framework.evaluation.models import EvaluationModels
from framework.evaluation.moments import Moments
from framework.evaluation.protocol import Record
from framework.sampling.sampler import BATCH_SIZE, LatentSampler
from framework.tracking.checkpoints import scores_from
from framework.utils.errors import FrameworkError
from tests.helpers.judged import (
    ALONE,
    DIM,
    Brightness,
    PairSampler,
    PointsNetwork,
    RingSampler,
    SmallGenerator,
    pictures,
    small_extractor,
    small_models,
)

SQUARE = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))


@dataclass(frozen=True, kw_only=True)
class FromReal(SampleMetric):
    """The mean difference from the real pictures of the same positions."""

    name = "from_real"
    definition = "mean |image - real image|"
    samples = ("image", "real_image")
    compares_with_real = True

    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        difference = (samples["image"].double() - samples["real_image"].double()).abs()
        return {"sum": difference.sum(), "number": torch.tensor(difference.numel(), dtype=torch.float64)}

    def value(self, sums: Mapping[str, Tensor]) -> float:
        return float(sums["sum"] / sums["number"])


def measured(samples: Any, *metrics: Metric, real: Any = None, cache: Path | None = None) -> dict[str, Record]:
    models = small_models() if cache else EvaluationModels()
    records = evaluate(samples, real, metrics=metrics, models=models, session=ALONE, cache_folder=cache)
    return {record.name: record for record in records}


def test_modes_are_hit_within_three_standard_deviations() -> None:
    metric = ModesHit(centres=((0.0, 0.0), (10.0, 0.0), (0.0, 10.0)), std=1.0)
    points = torch.tensor([[0.0, 0.0], [0.0, 3.0], [12.0, 2.0], [0.0, 13.01]])  # the second lies on the bound
    sums = metric.accumulate({"point": points})
    assert sums["good"].tolist() == [2.0, 1.0, 0.0]
    assert metric.value(sums) == {"modes_hit": 2.0, "good_share": 0.75}
    assert replace(metric, least=2).value(sums) == {"modes_hit": 1.0, "good_share": 0.75}
    # A point that is no number is a bad sample.
    lost = metric.accumulate({"point": torch.tensor([[float("nan"), 0.0], [0.0, 0.0]])})
    assert metric.value(lost) == {"modes_hit": 1.0, "good_share": 0.5}
    # A sample that two modes are near counts for the nearest of them.
    assert metric.accumulate({"point": torch.tensor([[4.9, 0.0]])})["good"].tolist() == [0.0, 0.0, 0.0]
    wide = replace(metric, std=2.0)
    assert wide.accumulate({"point": torch.tensor([[4.9, 0.0]])})["good"].tolist() == [1.0, 0.0, 0.0]
    for wrong in ({"centres": ()}, {"centres": ((0.0,), (0.0, 1.0))}, {"std": 0.0}, {"least": 0}):
        with pytest.raises(FrameworkError, match=next(iter(wrong))):
            replace(metric, **wrong)


def test_points_are_judged_by_position() -> None:
    samples = GeneratedSamples(network=PointsNetwork(), sampler=RingSampler(corners=3), notes={"k": 1})
    metric = ModesHit(centres=SQUARE, std=0.05)
    found = measured(samples, metric, replace(metric, count=120), FID())
    assert found["modes_hit"].value == 3.0
    share = found["good_share"].value
    # Within 3 standard deviations in the plane: 1 - exp(-9 / 2); the tolerance is four standard deviations of 2,500.
    expected = 1 - np.exp(-4.5)
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 2_500))
    protocol = found["modes_hit"].protocol
    assert protocol.generated == {
        "kind": "generator",
        "weights": "ema",
        "seed": 0,
        "point": "square",
        "k": 1,
        "count": 2_500,
    }
    assert protocol.options["centres"] == [list(centre) for centre in SQUARE]
    assert (protocol.options["std"], protocol.options["least"]) == (0.05, 1)
    assert protocol.extractor == protocol.reference == protocol.perceptual == {}
    assert found["modes_hit120"].value == 3.0
    assert found["modes_hit120"].protocol.generated["count"] == 120
    assert found["modes_hit"].protocol.hash != found["good_share"].protocol.hash
    assert "judges pictures" in str(found["fid"].missing)
    # A record that was kept and read again is the same record.
    record = found["modes_hit"]
    assert Record.from_json("modes_hit", json.loads(json.dumps(record.to_json()))) == record


def test_pairs_are_compared_from_zero_to_one() -> None:
    samples = {
        "generated": torch.tensor([0, 255, 10, 20], dtype=torch.uint8).view(1, 1, 2, 2),
        "target": torch.tensor([255, 0, 10, 71], dtype=torch.uint8).view(1, 1, 2, 2),
    }
    metric = PairedL1()
    assert metric.value(metric.accumulate(samples)) == (1 + 1 + 51 / 255) / 4
    found = measured(GeneratedSamples(network=torch.nn.Identity(), sampler=PairSampler(), count=130), PairedL1())
    drawn = PairSampler().draw(torch.nn.Identity(), range(130))
    expected = (drawn["source"].double() - drawn["target"].double()).abs().mean() / 255
    assert found["paired_l1"].value == pytest.approx(float(expected), rel=1e-12)
    for wrong, why in (
        ({"target": samples["target"].float()}, "float32"),
        ({"target": samples["target"][:, :, :1]}, "not pairs"),
    ):
        with pytest.raises(EvaluationError, match=why):
            metric.accumulate(samples | wrong)


def test_metrics_of_pictures_judge_what_was_generated(tmp_path: Path) -> None:
    """And neither the source nor the target of the same samples."""
    real = FolderImages(pictures(tmp_path / "real", count=60, seed=1, side=8))
    network = PointsNetwork(scale=0.5)
    samples = GeneratedSamples(network=network, sampler=PairSampler(), count=130)
    found = measured(samples, *parse_metrics("fd"), PairedL1(), real=real, cache=tmp_path / "cache")

    def moments(batches: Iterable[Tensor]) -> Moments:
        total = Moments.zeros(DIM)
        for batch in batches:
            total.add(small_extractor()(batch)[0])
        return total

    made = [PairSampler().draw(network, range(i, min(i + BATCH_SIZE, 130)))["generated"] for i in (0, 50, 100)]
    reals = [part.images for part in real.parts(count=60, rank=0, world=1)]
    assert found["fd_small"].value == pytest.approx(frechet_distance(moments(made), moments(reals)), rel=1e-9)
    assert found["paired_l1"].value is not None


def test_a_sampler_with_an_end_is_judged_whole() -> None:
    """As the held-out pictures of a translation are."""
    samples = GeneratedSamples(network=torch.nn.Identity(), sampler=PairSampler(count=90))
    found = measured(samples, PairedL1(), PairedL1(count=60), PairedL1(count=100))
    assert found["paired_l1"].protocol.generated["count"] == 90
    drawn = PairSampler().draw(torch.nn.Identity(), range(90))
    assert found["paired_l1"].value == PairedL1().value(PairedL1().accumulate(drawn))
    assert found["paired_l1_60"].value is not None
    assert "asked for 100 images, there are 90" in str(found["paired_l1_100"].missing)


def test_one_pass_serves_all_metrics(tmp_path: Path) -> None:
    drawn: list[range] = []

    @dataclass(frozen=True, kw_only=True)
    class Counting(LatentSampler):
        def draw(self, network: Any, positions: range) -> dict[str, Tensor]:
            drawn.append(positions)
            return super().draw(network, positions)

    samples = GeneratedSamples(network=SmallGenerator().eval(), sampler=Counting(seed=3))
    real = FolderImages(pictures(tmp_path / "real", count=70, seed=1))
    metrics = [*parse_metrics("fd120,kd120,pr70"), Brightness(count=130), Brightness(count=60, factor=2.0)]
    found = measured(samples, *metrics, real=real, cache=tmp_path / "cache")
    assert {name: record.missing for name, record in found.items()} == dict.fromkeys(found)
    assert [len(positions) for positions in drawn] == [BATCH_SIZE, BATCH_SIZE, 30]
    # The first 60 and the first 130 samples, whatever others look at; and values as without the others.
    images = torch.cat([samples.draw(range(i, i + 10))["image"] for i in range(0, 130, 10)]).double()
    assert found["brightness130"].value == pytest.approx(float(images.mean()), rel=1e-12)
    assert found["brightness60"].value == pytest.approx(2 * float(images[:60].mean()), rel=1e-12)
    alone = measured(samples, *parse_metrics("fd120"), real=real, cache=tmp_path / "other")
    assert alone["fd_small_120"].value == found["fd_small_120"].value


def test_samples_beside_the_real_ones_of_their_positions(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 256, (2, 130, 8, 8, 3)).astype(np.uint8)
    for name, images in zip(("judged", "real"), pixels, strict=True):
        np.savez(tmp_path / f"{name}.npz", images=images)
    judged, real = (ArrayImages(tmp_path / f"{name}.npz") for name in ("judged", "real"))
    found = measured(judged, FromReal(), FromReal(count=70), real=real)
    differences = np.abs(pixels[0].astype(float) - pixels[1])
    assert found["from_real"].value == pytest.approx(differences.mean(), rel=1e-12)
    assert found["from_real70"].value == pytest.approx(differences[:70].mean(), rel=1e-12)
    assert found["from_real"].protocol.reference["count"] == 130
    assert "real images" in str(measured(judged, FromReal())["from_real"].missing)
    few = measured(GeneratedSamples(network=SmallGenerator().eval(), count=200), FromReal(), real=real)
    assert "200 samples one by one, and there are 130" in str(few["from_real"].missing)


def test_a_cut_batch_keeps_its_real_samples() -> None:
    """Pictures of several sizes cut a batch where the size changes."""

    def parts(*starts: int) -> Iterator[Part]:
        for start, end in itertools.pairwise(starts):
            yield Part(start, {"image": torch.arange(start, end)})

    for part in beside_real(parts(0, 20, 50, 90, 100), parts(0, 50, 100)):
        assert torch.equal(part.samples["image"], part.samples["real_image"])
    late = list(beside_real(parts(0, 50, 100), parts(0, 50)))
    assert ["real_image" in part.samples for part in late] == [True, False]


def test_a_metric_that_fails_costs_the_others_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Failing(Brightness):
        name = "failing"

        def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"sum": samples["depth"]}

    @dataclass(frozen=True, kw_only=True)
    class Single(Brightness):
        name = "single"

        def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"sum": samples["image"].float().sum()}

    @dataclass(frozen=True, kw_only=True)
    class Changing(Brightness):
        name = "changing"

        def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"rows": samples["image"].double().mean((1, 2, 3))}

    @dataclass(frozen=True, kw_only=True)
    class Dividing(Brightness):
        name = "dividing"

        def value(self, sums: Mapping[str, Tensor]) -> float:
            return 1 / 0

    @dataclass(frozen=True, kw_only=True)
    class Endless(Brightness):
        name = "endless"

        def value(self, sums: Mapping[str, Tensor]) -> float:
            return float("inf")

    @dataclass(frozen=True, kw_only=True)
    class Other(Brightness):
        name = "other"

        def value(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
            return {"another": 1.0}

    folder = FolderImages(pictures(tmp_path / "x", count=70, seed=1))
    metrics = [Failing(), Single(), Changing(), Dividing(), Other(), Endless(), PairedL1()]
    found = measured(folder, *metrics, Brightness(count=70))
    for name, why in {
        "failing": r"failing.accumulate fails: KeyError: 'depth'",
        "single": "must return float64 tensors, and sum is torch.float32",
        "changing": "the same sums for every batch: {'rows': (50,)}, then {'rows': (20,)}",
        "dividing": "dividing.value fails: ZeroDivisionError",
        "other": "other.value returns another, its outputs are other",
        "endless": "endless is inf, which is no finite number",
        "paired_l1": "it looks at generated, target, and these samples are image",
    }.items():
        assert why in str(found[name].missing), name
    assert found["brightness70"].value is not None
    assert [r.message for r in caplog.records] == ["failing.accumulate fails", "dividing.value fails"]
    assert all(r.exc_info for r in caplog.records), "the log shows where the user's code failed"


def test_own_metrics_are_named_like_the_usual_ones() -> None:
    own = [PairedL1(), Brightness(factor=2.0)]
    named = parse_metrics("fid50k,paired_l1,paired_l1_2k,brightness500,Brightness", own=own)
    assert [(m.name, m.count) for m in named] == [
        ("fid", 50_000),
        ("paired_l1", None),
        ("paired_l1", 2_000),
        ("brightness", 500),
        ("brightness", None),
    ]
    assert isinstance(named[3], Brightness)
    assert named[3].factor == 2.0
    assert [name for m in named[2:4] for name in m.names(None).values()] == ["paired_l1_2k", "brightness500"]
    with pytest.raises(EvaluationError, match=r"brightnes: no such metric.*brightness"):
        parse_metrics("brightnes", own=own)
    with pytest.raises(EvaluationError, match="brightness: no such metric"):
        parse_metrics("brightness")


def test_metrics_that_cannot_be_recorded_are_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Unnamed(Brightness):
        name = "Bright-ness"

    @dataclass(frozen=True, kw_only=True)
    class Listed(Brightness):
        bounds: Any = ()

    @dataclass(frozen=True, kw_only=True)
    class Undefined(SampleMetric):
        name = "undefined"
        samples = ("image",)

        def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {}

        def value(self, sums: Mapping[str, Tensor]) -> float:
            return 0.0

    @dataclass(frozen=True, kw_only=True)
    class Text(Undefined):
        definition = "none"
        samples: Any = "image"  # a text, and no tuple

    assert checked_metrics((Brightness(), PairedL1()), place="here") == [Brightness(), PairedL1()]
    for held, why in (
        ((Brightness,), "is no metric"),
        ((Unnamed(),), "Unnamed has the name 'Bright-ness'"),
        ((Brightness(), Brightness(factor=2.0)), "two metrics are named brightness"),
        ((Listed(bounds=[1]),), "Listed may have fields of numbers, texts and tuples only"),
        ((Listed(bounds=(torch.float32,)),), "Listed may have fields of numbers"),
        ((Undefined(),), "Undefined has no definition"),
        ((Text(),), 'Text must name the tensors it looks at: samples = \\("image",\\)'),
        ((Brightness(factor=float("nan")),), "Brightness may have fields of numbers"),
    ):
        with pytest.raises(EvaluationError, match=f"here: .*{why}"):
            checked_metrics(held, place="here")


def test_the_protocol_says_whether_more_is_better() -> None:
    """A name alone would call every metric that it does not know a distance."""
    found = measured(
        GeneratedSamples(network=PointsNetwork(), sampler=RingSampler()), ModesHit(centres=SQUARE, std=0.1)
    )
    scores = scores_from({f"{r.name}-{r.protocol.hash}": r.to_json() for r in found.values()})
    assert {score.name: score.lower_is_better for score in scores} == {"modes_hit": False, "good_share": False}
    assert [r.lower_is_better for r in found.values()] == [False, False]
    assert PairedL1().lower_is_better("paired_l1")
    assert [FID().lower_is_better("fid"), parse_metrics("pr")[0].lower_is_better("recall")] == [True, False]
