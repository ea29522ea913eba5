"""Evaluations of samples that are no pictures: nothing real is opened, and the best is the one with the most modes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from framework.evaluation.metrics import ModesHit
from framework.evaluation.models import EvaluationModels
from framework.evaluation.protocol import read_records
from framework.runtime.watchdog import Progress
from framework.tracking import NullTracker
from framework.train.console import Status
from framework.train.evaluation import Evaluator
from tests.helpers.judged import ALONE, PointsNetwork, RingSampler

SQUARE = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))


@dataclass
class Unaveraged:
    """In the average's place: the network itself."""

    network: nn.Module

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[nn.Module]:
        yield self.network


def nothing_real(resolution: int) -> Any:
    raise AssertionError("points are compared with no pictures")


def evaluator(network: nn.Module) -> Evaluator:
    made = Evaluator(
        metrics=[ModesHit(centres=SQUARE, std=0.05, count=80)],
        models=EvaluationModels(),
        average=Unaveraged(network),  # type: ignore[arg-type]
        real=nothing_real,
        sampler=RingSampler(),
        session=ALONE,
        tracker=NullTracker(),
        status=Status(name="point", images_seen=0, total=1, quiet=True),
        progress=Progress(),
    )
    made.begin(network, resolution=0)
    return made


def test_points_are_measured_while_a_run_trains(tmp_path: Path) -> None:
    network = PointsNetwork()
    judge = evaluator(network)
    assert judge.scores() == {}, "more modes are no distance by which checkpoints could be compared"
    for images, scale in ((10, 1000.0), (20, 1.0), (30, 1000.0)):
        with torch.no_grad():
            network.scale.fill_(scale)
        folder = tmp_path / str(images)
        folder.mkdir()
        judge.evaluate(images, checkpoint=folder, settle=lambda: True)
        assert len(read_records(folder)) == 2
    best = {series.partition("-")[0]: value for series, value in judge.state()["best"].items()}
    assert best["metrics/modes_hit80"] == (20, 4.0)
    assert best["metrics/good_share80"][0] == 20
    assert judge.take_distance_growth() is None

    # A run that goes on at 20 images knows its own checkpoint's records, and of which values more is better.
    again = evaluator(network)
    record = {"evaluation": {"scores": [], "best": {}, "latest": {}}}
    for images in (10, 20, 30):
        again.restore(SimpleNamespace(record=record, path=tmp_path / str(images), images_seen=images))  # type: ignore[arg-type]
        record = {"evaluation": again.state()}
    assert again.state()["best"] == judge.state()["best"]
