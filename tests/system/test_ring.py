"""The ring of Gaussians from start to end: a run without data files that resumes, is measured, shown and sampled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor

from framework.__main__ import run as call
from framework.evaluation.metrics import Settings
from framework.evaluation.metrics.files import metrics_in_files
from framework.evaluation.models import EvaluationModels
from framework.evaluation.offline import Sampling, evaluate_checkpoint
from framework.recipe import Recipe
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.trainer import run
from framework.utils.importing import named_in_file
from tests.helpers.journals import science
from tests.helpers.judged import ALONE
from tests.helpers.launch import ROOT, unequal
from tests.helpers.spawn import run_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(300)]
FILE = ROOT / "recipes/gan_ring.py"
IMAGES = 4096


def train(out: Path, *, images: int = IMAGES) -> Path:
    """A run of the recipe in this process; its last checkpoint."""
    recipe: Recipe = named_in_file(f"{FILE}:RECIPE", flag="", example="")[0].RECIPE
    config = RunConfig(
        out=out, images=images, tracking="none", workers=0, log_every_images=1024, eval_every_images=2048
    )
    run(replace(recipe, images=images), config, session=ALONE, data="")
    return out / "checkpoints" / str(images)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("ring") / "run")


def command(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """Call the program as a command line does; what it prints."""
    assert call(str(arguments[0]), [str(one) for one in arguments[1:]]) == status
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_a_run_that_stopped_goes_on_to_the_same_bits(straight: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", images=IMAGES // 2)
    halves = train(tmp_path / "run")
    assert unequal(straight, halves) == []
    points, undisturbed = science(halves.parents[1]), science(straight.parents[1])
    assert any(name.startswith("metrics/modes_hit") for name in undisturbed)
    assert [images for images, _ in undisturbed["loss/D"]] == [1024, 2048, 3072, IMAGES]
    assert points == undisturbed
    # The axes, and the real points behind the samples, do not depend on when the run was started.
    for frame in ("ema-000000000.png", f"ema-{IMAGES:09d}.png"):
        shown = [(run.parents[1] / "samples" / frame).read_bytes() for run in (straight, halves)]
        assert shown[0] == shown[1], frame


def measured(checkpoint: str) -> dict[str, Tensor]:
    """The metrics of the recipe on this process of a group."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    session = Session(rank=rank, world=world, local_rank=rank, device=torch.device("cpu"), local_world=world)
    records, _ = evaluate_checkpoint(
        checkpoint,
        None,
        metrics=metrics_in_files([f"{FILE}:RECIPE"]),
        models=EvaluationModels(),
        session=session,
        sampling=Sampling(),
        settings=Settings(),
        record=False,
    )
    return {"values": torch.tensor([record.value for record in records], dtype=torch.float64)}


def test_modes_hit_are_the_same_in_the_run_and_on_one_and_two_processes(
    straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in run_ranks(measured, 2, str(straight)):
        assert torch.equal(rank["values"], measured(str(straight))["values"])
    inside = json.loads((straight / "evaluation.json").read_text())["records"]
    told = json.loads(
        command(capsys, "evaluate", straight, "--metric", f"{FILE}:RECIPE", "--json", "--no-record", "--no-progress")
    )
    assert [record["value"] for record in told.values()] == measured(str(straight))["values"].tolist()
    assert 0 < told["good_share"]["value"] < 1
    assert {key.rpartition("-")[2] for key in inside} == {record["protocol"]["hash"] for record in told.values()}


def test_points_are_sampled_as_a_plot_and_as_arrays(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot, arrays = tmp_path / "plot.png", tmp_path / "points.npz"
    printed = command(capsys, "sample", straight, "--out", plot, "--npz", arrays, "--count", "40", "--seed", "3")
    assert printed.split() == [str(plot), str(arrays)]
    with Image.open(plot) as image:
        assert image.size == (640, 720)
    with np.load(arrays) as stored:
        assert stored["points"].shape == (40, 2)
        assert stored["points"].dtype == np.float32
        assert len(np.unique(stored["points"], axis=0)) == 40
    for flag, why in ((["--interpolate"], "--interpolate shows pictures"), (["--grid", "4x4"], "--grid arranges")):
        printed = command(capsys, "sample", straight, "--out", plot, *flag, status=2)
        assert printed.startswith(f"error: {why}")
        assert printed.count("\n") == 1
