"""`framework evaluate --metric FILE.py:NAME`: a user's metric in a file of the user's, measured and kept like FID."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from framework.commands.evaluate import EvaluateOptions, evaluate
from framework.evaluation.images import open_images
from framework.evaluation.metrics.files import metrics_in_files
from framework.utils.errors import FrameworkError
from tests.helpers.judged import pictures

MY_METRIC = """
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from framework import SampleMetric


@dataclass(frozen=True, kw_only=True)
class Brightness(SampleMetric):
    name = "brightness"
    definition = "share of pixels that are brighter than `least`"
    samples = ("image",)

    least: int = 128

    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        bright = samples["image"] > self.least
        return {"bright": bright.sum().double(), "number": torch.tensor(float(bright.numel())).double()}

    def value(self, sums: Mapping[str, Tensor]) -> float:
        return float(sums["bright"] / sums["number"])


@dataclass(frozen=True, kw_only=True)
class Demanding(Brightness):
    most: int


DARK = Brightness(least=50)


@dataclass(frozen=True, kw_only=True)
class Darkness(Brightness):
    name = "darkness"


@dataclass(frozen=True)
class Recipe:
    metrics: tuple[Brightness, ...]


RECIPE, BARE = Recipe((Brightness(least=1), Darkness(least=2))), Recipe(())
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_metric.py"
    path.write_text(MY_METRIC)
    return path


def test_a_class_or_a_metric_of_a_file_is_measured(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "images", count=70, seed=1)
    (part, other) = open_images(folder).parts(count=70, rank=0, world=1)
    pixels = np.concatenate([part.images.numpy(), other.images.numpy()])

    def shown(**flags: object) -> dict[str, dict]:
        options = EvaluateOptions(images=str(folder), json=True, device="cpu", progress=False, **flags)  # type: ignore[arg-type]
        assert evaluate((), options=options) == 0
        return json.loads(capsys.readouterr().out)

    found = shown(metric=(f"{file}:Brightness",))
    assert list(found) == ["brightness"]  # no metric of pictures was asked for, so no real images are needed
    assert found["brightness"]["value"] == pytest.approx((pixels > 128).mean(), rel=1e-12)
    assert found["brightness"]["protocol"]["options"] == {"least": 128, "higher_is_better": []}

    # A metric with constants of its own; with --metrics a count, and beside others.
    found = shown(metric=(f"{file}:DARK",))
    assert found["brightness"]["value"] == pytest.approx((pixels > 50).mean(), rel=1e-12)
    found = shown(metric=(f"{file}:DARK",), metrics="brightness60")
    assert found["brightness60"]["value"] == pytest.approx((pixels[:60] > 50).mean(), rel=1e-12)
    flags = {"metrics": "fd", "extractor": "fashion_classifier", "reference": str(folder)}
    found = shown(metric=(f"{file}:Brightness",), cache_folder=tmp_path / "cache", **flags)
    assert list(found) == ["fd_fashion_classifier", "brightness"]


def test_a_recipe_stands_for_its_metrics(file: Path) -> None:
    found = metrics_in_files([f"{file}:RECIPE"])
    assert [(metric.name, metric.least) for metric in found] == [("brightness", 1), ("darkness", 2)]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{file}", "write it as FILE.py:CLASS, for example my_metric.py:ModesHit"),
        ("{file}:Britness", "has no such metric.*Brightness.*It has: Brightness, DARK, Darkness, Demanding, RECIPE$"),
        ("{file}:torch", "has no such metric"),
        ("{file}:BARE", "has no such metric"),
        ("{file}:Demanding", "give every field of Demanding a default"),
        ("{file}:SampleMetric", "has no such metric"),
        ("{file}.py:X", "there is no file"),
    ],
)
def test_what_is_no_metric_is_refused(file: Path, place: str, message: str) -> None:
    with pytest.raises(FrameworkError, match=f"--metric .*{message}"):
        metrics_in_files([place.format(file=file)])


def test_two_of_one_name_are_refused(file: Path) -> None:
    with pytest.raises(FrameworkError, match="--metric: two metrics are named brightness"):
        metrics_in_files([f"{file}:Brightness", f"{file}:DARK"])
