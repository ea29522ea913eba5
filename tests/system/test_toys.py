"""Toy problems from start to end: they train and resume, and measure the same inside a run and on 1 and 2 processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from framework.__main__ import run as call
from framework.data.stream import open_stream
from framework.evaluation.metrics import Settings
from framework.evaluation.metrics.files import metrics_in_files
from framework.evaluation.models import EvaluationModels
from framework.evaluation.offline import Sampling, evaluate_checkpoint
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.trainer import run
from tests.helpers.journals import evaluations, points
from tests.helpers.launch import ROOT, unequal
from tests.helpers.launch import run as launched
from tests.helpers.spawn import run_ranks
from tests.recipes import toys

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(300)]
FILE = ROOT / "tests/recipes/toys.py"
FASHION = ROOT / "recipes/data/fashion_mnist"


def session() -> Session:
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return Session(rank=rank, world=world, local_rank=rank, device=torch.device("cpu"), local_world=world)


def train(out: Path, name: str, *, data: str = "", images: int | None = None, **flags: Any) -> Path:
    """A run of one of the recipes in this process; its last checkpoint."""
    recipe = getattr(toys, name)
    every, end = recipe.images // 2, images or recipe.images
    usual = {"tracking": "none", "workers": 0, "log_every_images": every, "eval_every_images": every}
    config = RunConfig(out=out, images=end, **(usual | flags))
    run(replace(recipe, images=end), config, session=session(), data=data)
    return out / "checkpoints" / str(end)


def measured(checkpoint: str, name: str, real: str | None) -> dict[str, Tensor]:
    """The recipe's own metrics on this process of a group."""
    records, _ = evaluate_checkpoint(
        checkpoint,
        real,
        metrics=metrics_in_files([f"{FILE}:{name}"]),
        models=EvaluationModels(),
        session=session(),
        sampling=Sampling(),
        settings=Settings(),
        record=False,
    )
    assert {record.name: record.missing for record in records} == dict.fromkeys(record.name for record in records)
    return {record.name: torch.tensor(record.value, dtype=torch.float64) for record in records}


def check_measured_alike(checkpoint: Path, name: str, *, real: str | None = None) -> dict[str, float]:
    """Inside the run, alone, on two processes, and by the command: the same values under the same protocols."""
    alone = {output: float(value) for output, value in measured(str(checkpoint), name, real).items()}
    for rank in run_ranks(measured, 2, str(checkpoint), name, real):
        assert {output: float(value) for output, value in rank.items()} == alone
    kept = json.loads((checkpoint / "evaluation.json").read_text())["records"]
    inside = {key.rpartition("-")[0]: record["value"] for key, record in kept.items()}
    assert alone.items() <= inside.items()
    words = [str(checkpoint), "--metric", f"{FILE}:{name}", "--no-upload", "--no-progress"]
    assert call("evaluate", [*words, *(["--data", real] if real else [])]) == 0
    again = json.loads((checkpoint / "evaluation.json").read_text())["records"]
    assert again == kept, "it was measured under these protocols before"
    return inside


def test_computed_points_are_measured_alike_everywhere(tmp_path: Path) -> None:
    checkpoint = train(tmp_path / "ring", "RING")
    found = check_measured_alike(checkpoint, "RING")
    assert found.keys() == {"modes_hit300", "good_share300", "modes_kl300", "earth_movers150"}
    assert 0 < found["modes_kl300"] <= np.log(8)
    assert found["earth_movers150"] > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toys")


@pytest.fixture(scope="module")
def packed(folder: Path) -> Path:
    """The packed rows of a table of 300 points, by the command."""
    rng = np.random.default_rng(0)
    lines = [f"{x:.6f},{y:.6f},{'left' if x < 0 else 'right'}" for x, y in rng.normal(size=(300, 2))]
    (folder / "points.csv").write_text("\n".join(["x,y,side", *lines]) + "\n")
    words = [str(folder / "points.csv"), str(folder / "points"), "--label-column", "side", "--no-progress"]
    assert not call("pack", words)
    return folder / "points"


def test_a_table_of_ones_own_is_trained_on_and_measured(packed: Path, folder: Path) -> None:
    """A real launch on two processes, continued by one, then the plot and the metric of the command line."""
    out = folder / "run"
    flags = ["--data", str(packed), "--out", str(out), "--tracking", "none", "--device", "cpu"]
    flags += ["--log-every-images", "128", "--eval-every-images", "256"]
    launched(FILE, *flags, "--images", "256", world=2, log=folder / "log")
    launched(FILE, *flags, "--images", "512", world=1, log=folder / "log")
    assert [images for images, _ in points(out, "loss/D")] == [128, 256, 384, 512]
    assert [images for images, _ in evaluations(out)] == [256, 512]
    found = check_measured_alike(out / "checkpoints/512", "POINTS", real=str(packed))
    assert found.keys() == {"earth_movers150"}
    assert (out / "samples/ema-000000512.png").exists()
    # The distance is that to the points of this table.
    (record,) = json.loads((out / "checkpoints/512/evaluation.json").read_text())["records"].values()
    stream = open_stream(packed, fields=toys.POINTS.data.fields, workers=0)
    assert record["protocol"]["reference"]["fingerprint"] == stream.fingerprint


def test_a_run_on_a_table_resumes_to_the_same_bits(packed: Path, tmp_path: Path) -> None:
    straight = train(tmp_path / "straight", "POINTS", data=str(packed))
    train(tmp_path / "halves", "POINTS", data=str(packed), images=256)
    halves = train(tmp_path / "halves", "POINTS", data=str(packed))
    assert unequal(straight, halves) == []


def test_stacked_pictures_are_trained_on_and_measured_alike_everywhere(tmp_path: Path) -> None:
    flags = {"eval_metrics": "stacked_modes,fd100", "eval_extractor": "fashion_classifier"}
    straight = train(tmp_path / "straight", "STACKED", data=str(FASHION), **flags)
    found = check_measured_alike(straight, "STACKED")
    assert found.keys() == {"stacked_modes170", "stacked_kl170", "fd_fashion_classifier_100"}
    # Pictures are compared with stacked ones, and not with the grey ones that these are made of.
    records = json.loads((straight / "evaluation.json").read_text())["records"]
    (distance,) = (record for record in records.values() if record["protocol"]["metric"] == "fd")
    assert distance["protocol"]["reference"]["stacked"] == 3
    train(tmp_path / "halves", "STACKED", data=str(FASHION), images=32, **flags)
    halves = train(tmp_path / "halves", "STACKED", data=str(FASHION), **flags)
    assert unequal(straight, halves) == []
    config = json.loads(next((tmp_path / "straight").glob("recipe*.json")).read_text())
    assert config["data"]["of"]["location"] == toys.STACKED.data.of.location  # type: ignore[union-attr]
