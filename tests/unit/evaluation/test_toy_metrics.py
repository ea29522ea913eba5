"""Metrics of toy problems: known answers, what is undefined, and what real samples give."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from framework import Computed, GridOfGaussians, RingOfGaussians, Shards, Stacked, SwissRoll
from framework.data.fields import fields_of
from framework.evaluation import GeneratedSamples, evaluate
from framework.evaluation.errors import EvaluationError, MissingError
from framework.evaluation.extractors import fashion
from framework.evaluation.images import Part
from framework.evaluation.metrics import EarthMoversDistance, Metric, ModesHit, ModesKL, Settings, StackedModes
from framework.evaluation.metrics.earth_movers import earth_movers_distance
from framework.evaluation.metrics.modes import divergence
from framework.evaluation.models import EvaluationModels
from framework.evaluation.protocol import Record
from framework.sampling.stored import StackedSamples, StoredSamples
from framework.utils.errors import FrameworkError, RecipeError
from tests.helpers.judged import ALONE, PointsNetwork, RingSampler
from tests.helpers.launch import ROOT

FASHION = ROOT / "recipes/data/fashion_mnist"
SQUARE = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))


class Given:
    """Samples that are given, in batches of seven."""

    endless, classes, picture = False, 0, None

    def __init__(self, **samples: Tensor) -> None:
        self._samples, self.count = samples, len(next(iter(samples.values())))

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "given"}

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        for start in range(7 * rank, count, 7 * world):
            rows = {name: values[start : min(start + 7, count)] for name, values in self._samples.items()}
            yield Part(start, rows, None)


def measured(samples: Any, *metrics: Metric, real: Any = None) -> dict[str, Record]:
    records = evaluate(samples, real, metrics=metrics, models=EvaluationModels(), session=ALONE)
    return {record.name: record for record in records}


def test_the_divergence_has_the_generated_histogram_in_front() -> None:
    metric = ModesKL(centres=((0.0, 0.0), (10.0, 0.0), (0.0, 10.0)), std=1.0)
    points = torch.tensor([[0.0, 0.0], [0.0, 3.0], [12.0, 2.0], [0.0, 10.0], [50.0, 50.0]])
    sums = metric.accumulate({"point": points})
    assert sums["good"].tolist() == [2, 1, 1]
    assert metric.value(sums) == pytest.approx(0.5 * math.log(1.5) + 2 * 0.25 * math.log(0.75), rel=1e-14)
    # Against the mixture's own weights, in any unit; the other direction would be infinite with an empty mode.
    assert replace(metric, shares=(2.0, 1.0, 1.0)).value(sums) == 0.0
    only = {"good": torch.tensor([0.0, 7.0, 0.0], dtype=torch.float64)}
    assert metric.value(only) == pytest.approx(math.log(3), rel=1e-14)
    assert replace(metric, shares=(8.0, 1.0, 1.0)).value(only) == pytest.approx(math.log(10), rel=1e-14)


def test_the_counts_are_those_of_modes_hit() -> None:
    """And `ModesHit` is what it was: fields, definition and outputs stand in protocols."""
    points = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    hit, kl = ModesHit(centres=SQUARE, std=0.3), ModesKL(centres=SQUARE, std=0.3)
    assert torch.equal(hit.accumulate({"point": points})["good"], kl.accumulate({"point": points})["good"])
    told = hit.options(Settings())
    assert told == {
        "centres": [list(centre) for centre in SQUARE],
        "std": 0.3,
        "least": 1,
        "higher_is_better": ["modes_hit", "good_share"],
    }
    assert hit.definition == (
        "modes with at least `least` samples within 3 standard deviations of the centre that is nearest, and the share "
        "of such samples (arXiv:1705.07761, section 4.1)"
    )
    assert kl.lower_is_better("modes_kl")


def test_the_mixture_itself_has_the_divergence_of_its_number_of_samples() -> None:
    """For n samples of k modes, 2 n KL is nearly chi-squared with k - 1 degrees of freedom (Wilks 1938)."""
    grid, count = GridOfGaussians(std=0.05), 25_000
    metric = ModesKL(centres=tuple(map(tuple, grid.means().tolist())), std=grid.std)
    points = torch.from_numpy(grid.rows(np.arange(count), seed=0)["point"])
    freedom = 24
    found = 2 * metric.accumulate({"point": points})["good"].sum() * metric.value(metric.accumulate({"point": points}))
    assert abs(float(found) - freedom) < 4.5 * (2 * freedom) ** 0.5, "4.5 standard deviations"


def test_no_good_sample_has_no_divergence() -> None:
    far = Given(point=torch.full((20, 2), 100.0))
    found = measured(far, ModesKL(centres=SQUARE, std=0.1), ModesHit(centres=SQUARE, std=0.1))
    assert "there is no good sample" in str(found["modes_kl"].missing)
    assert found["good_share"].value == 0.0
    other = measured(Given(point=torch.zeros(20, 3)), ModesKL(centres=SQUARE, std=0.1))
    assert "samples are (3,), the centres have 2 numbers" in str(other["modes_kl"].missing)
    with pytest.raises(MissingError, match="no sample"):
        divergence(torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "why"),
    [({"shares": (1.0,)}, "one number for each of 4 centres"), ({"shares": (1.0, 1.0, 0.0, 1.0)}, "must be positive")],
)
def test_shares_that_do_not_fit_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(FrameworkError, match=why):
        ModesKL(centres=SQUARE, std=0.1, **options)
    with pytest.raises(RecipeError, match="ModesKL: centres="):
        ModesKL(centres=(), std=0.1)


def test_the_earth_movers_distance_is_the_cheapest_assignment() -> None:
    """All orders of six vectors are tried; and on a line the sorted ones are assigned to each other."""
    rng = np.random.default_rng(0)
    for dims in (1, 2, 5):
        a, b = rng.normal(size=(2, 6, dims))
        tried = min(np.linalg.norm(a - b[list(order)], axis=1).mean() for order in itertools.permutations(range(6)))
        assert earth_movers_distance(a, b) == pytest.approx(tried, rel=1e-14)
    a, b = rng.normal(size=(2, 400, 1))
    expected = np.abs(np.sort(a[:, 0]) - np.sort(b[:, 0])).mean()
    assert earth_movers_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert earth_movers_distance(a, a[::-1] + 3.0) == pytest.approx(3.0, rel=1e-12)


def test_points_are_held_against_computed_ones() -> None:
    ring = RingOfGaussians(modes=4, radius=1.0, std=0.05)
    metric = EarthMoversDistance(real=ring, count=200)
    good = GeneratedSamples(network=PointsNetwork(), sampler=RingSampler())
    lost = GeneratedSamples(network=PointsNetwork(), sampler=RingSampler(corners=2))
    found = {name: measured(samples, metric)["earth_movers200"] for name, samples in (("good", good), ("lost", lost))}
    # Half of the points of two neighbouring corners must move to the two others, at least the side of the square, less
    # what 200 points at a corner may be short of their half: 4.5 standard deviations of a count, and the noise.
    assert found["lost"].value is not None
    assert found["lost"].value > 0.5 * (2**0.5 - 6 * 0.05) - 4.5 * 0.5 / 200**0.5
    between = found["good"].details["between_real_sets"]
    assert between == found["lost"].details["between_real_sets"]
    assert found["good"].value == pytest.approx(between, abs=0.15), "both are distances of two sets of 200"
    protocol = found["good"].protocol
    assert protocol.options["real"]["name"] == "RingOfGaussians"
    assert protocol.reference == {}
    other = measured(good, replace(metric, real=replace(ring, std=0.06)))["earth_movers200"]
    assert other.protocol.hash != protocol.hash
    # The real points are not those of a run with the same seed.
    trained = ring.rows(np.arange(200), seed=0)["point"]
    assert measured(Given(point=torch.from_numpy(trained)), metric)["earth_movers200"].value != 0.0


def test_points_are_held_against_a_real_set() -> None:
    rng = np.random.default_rng(1)
    a, b = (torch.from_numpy(rng.normal(size=(60, 3)).astype(np.float32)) for _ in range(2))
    metric = EarthMoversDistance(field="code", count=50)
    assert metric.compares_with_real
    found = measured(Given(code=a), metric, real=Given(code=b))["earth_movers50"]
    expected = earth_movers_distance(a[:50].double().numpy(), b[:50].double().numpy())
    assert found.value == expected
    assert found.protocol.reference["count"] == 60


@pytest.mark.parametrize(
    ("made", "real", "options", "why"),
    [
        ({"point": (60, 2)}, {"point": (60, 3)}, {}, "generated vectors have 2 numbers, real ones 3"),
        ({"image": (60, 2)}, {"point": (60, 2)}, {}, "it looks at point, and generated samples are image"),
        ({"point": (60, 2)}, {"code": (60, 2)}, {}, "it looks at point, and real samples are code"),
        ({"point": (60, 2)}, {"point": (40, 2)}, {}, "it compares with as many real samples, 60, and has 40"),
        ({"point": (60, 2)}, None, {}, "none were given"),
        ({"point": (60, 2)}, None, {"real": SwissRoll(), "field": "code"}, "samples are point"),
        ({"point": (6000, 2)}, {"point": (6000, 2)}, {"count": 6000}, "6,000 vectors takes too long"),
    ],
)
def test_what_has_no_distance_is_missing(made: Any, real: Any, options: dict[str, Any], why: str) -> None:
    judged = Given(**{name: torch.zeros(shape) for name, shape in made.items()})
    against = None if real is None else Given(**{name: torch.zeros(shape) for name, shape in real.items()})
    (record,) = measured(judged, EarthMoversDistance(**options), real=against).values()
    assert why in str(record.missing)


def test_points_that_are_no_numbers_are_missing() -> None:
    points = torch.zeros(30, 2)
    points[17, 1] = float("nan")
    (record,) = measured(Given(point=points), EarthMoversDistance(real=SwissRoll())).values()
    assert "some generated samples are no finite numbers" in str(record.missing)


def test_only_computed_sources_are_computed() -> None:
    assert issubclass(RingOfGaussians, Computed)
    with pytest.raises(RecipeError, match="EarthMoversDistance: real="):
        EarthMoversDistance(real=Shards("x", resolution=8))  # type: ignore[arg-type]


STACKED = Stacked(of=Shards("fashion", resolution=32, channels=1, classes=10))
COUNT = 25_600
FLOOR = 999 / (2 * COUNT)
"""The expected KL of so many samples whose modes are uniform (Miller 1955): half of 999 degrees of freedom, over n."""


@pytest.fixture(scope="module")
def classes() -> tuple[np.ndarray, np.ndarray]:
    """The class of each of the 1,750 vendored pictures, as it is labelled and as the classifier says."""
    grey = StoredSamples(str(FASHION), fields_of(STACKED.of))
    rows = grey.rows(range(grey.count))
    network = fashion.FashionClassifier.from_state(load_file(fashion.WEIGHTS))
    with torch.no_grad():
        said = network(rows["image"])[1].argmax(1)
    return rows["label"].numpy(), said.numpy()


def stacked_counts(classes: np.ndarray, count: int) -> Tensor:
    """How often each mode comes among pictures that are drawn for each channel by itself, float64 (1000,)."""
    drawn = np.random.default_rng(0).choice(classes, (count, 3))
    return torch.from_numpy(np.bincount(drawn @ [100, 10, 1], minlength=1000)).double()


def test_real_stacked_pictures_hit_all_modes_and_have_the_divergence_of_their_number(
    classes: tuple[np.ndarray, np.ndarray],
) -> None:
    labelled, said = classes
    metric = StackedModes()
    assert metric.default_count == COUNT
    # By the labels the modes are uniform: 2 n KL is nearly chi-squared with 999 degrees of freedom (Wilks 1938), whose
    # standard deviation is the root of twice as many.
    found = metric.value({"modes": stacked_counts(labelled, COUNT)})
    assert found["stacked_modes"] == 1000.0
    spread = (2 * 999) ** 0.5 / (2 * COUNT)
    assert found["stacked_kl"] == pytest.approx(FLOOR, abs=4.5 * spread)
    # The classifier errs, so its classes are not uniform: their own divergence, once a channel, stands on top. The log
    # of a mode's share varies from sample to sample, and so adds to the spread.
    shares = np.bincount(said, minlength=10) / len(said)
    bias = 3 * divergence(torch.from_numpy(shares))
    spread = (spread**2 + 3 * np.average(np.log(10 * shares) ** 2, weights=shares) / COUNT) ** 0.5
    found = metric.value({"modes": stacked_counts(said, COUNT)})
    print(f"{COUNT} real: {found}, expected {bias + FLOOR:.4f}: {bias:.4f} the classifier's, {FLOOR:.4f} the number's")
    assert found["stacked_modes"] == 1000.0
    assert found["stacked_kl"] == pytest.approx(bias + FLOOR, abs=4.5 * spread)
    assert bias < 0.02, "far below what a lost mode costs"


def test_each_channel_is_read_by_itself(classes: tuple[np.ndarray, np.ndarray]) -> None:
    rows = StackedSamples(str(FASHION), STACKED).rows(range(200))
    metric = StackedModes()
    found = metric.accumulate({"image": rows["image"]})["modes"]
    network = fashion.FashionClassifier.from_state(load_file(fashion.WEIGHTS))
    with torch.no_grad():
        said = [network(rows["image"][:, channel : channel + 1])[1].argmax(1) for channel in range(3)]
    assert torch.equal(found, torch.bincount(100 * said[0] + 10 * said[1] + said[2], minlength=1000).double())
    # Most are what their labels say: 86 % of single pictures are, so of three in a row about 64 %.
    right = float((100 * said[0] + 10 * said[1] + said[2] == rows["label"]).double().mean())
    assert right > 0.5
    # A generator that shows one picture has one mode, at the largest divergence.
    same = metric.value(metric.accumulate({"image": rows["image"][:1].expand(60, -1, -1, -1)}))
    assert same == {"stacked_modes": 1.0, "stacked_kl": pytest.approx(math.log(1000), rel=1e-14)}


def test_the_classifier_stands_in_the_protocol(tmp_path: Path) -> None:
    own = tmp_path / "digits.safetensors"
    save_file(load_file(fashion.WEIGHTS), own)
    told = [StackedModes(weights=weights).options(Settings())["classifier"] for weights in ("", str(own))]
    assert told[0]["tensors_sha256"] == told[1]["tensors_sha256"]
    assert len(told[0]["tensors_sha256"]) == 64
    save_file({name: values + 1 for name, values in load_file(own).items()}, tmp_path / "other.safetensors")
    other = StackedModes(weights=str(tmp_path / "other.safetensors")).options(Settings())["classifier"]
    assert other["tensors_sha256"] != told[0]["tensors_sha256"]
    save_file({"linear.weight": torch.zeros(2, 2)}, tmp_path / "wrong.safetensors")
    for name, why in (("wrong.safetensors", "weights of another network"), ("gone.safetensors", "gone.safetensors")):
        with pytest.raises(FrameworkError, match=why):
            StackedModes(weights=str(tmp_path / name)).options(Settings())


def test_other_samples_have_no_stacked_modes() -> None:
    for wrong, why in (
        (torch.zeros(20, 1, 8, 8, dtype=torch.uint8), r"\(1, 8, 8\)"),
        (torch.zeros(20, 3, 8, 8), "float32"),
    ):
        with pytest.raises(EvaluationError, match=why):
            StackedModes().accumulate({"image": wrong})
