"""The files of `examples/`: each is trained, sampled and evaluated as its own command lines say."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.checkpoint import Checkpoint
from tests.helpers.journals import evaluations, points
from tests.helpers.launch import ROOT, environment
from tests.helpers.launch import run as launched

EXAMPLES = ("my_data", "my_game", "my_loss", "my_metric", "my_network", "my_optimizer")
WITH_NETWORKS = ("my_loss", "my_network")
ON_TWO_PROCESSES = "my_network"
FLAGS = ("--tracking", "none", "--device", "cpu", "--workers", "0", "--log-every-images", "32")
METRIC = "examples/my_metric.py:Brightness"

pytestmark = pytest.mark.timeout(400)


def training(name: str, folder: Path, images: int) -> list[str]:
    data = () if name == "my_data" else ("--data", str(ROOT / "recipes/data/fashion_mnist"))
    return [f"examples/{name}.py", "--out", str(folder / name), "--images", str(images), *data, *FLAGS]


def judging(name: str, folder: Path) -> list[list[str]]:
    network = ["--network", f"examples/{name}.py:Generator"] if name in WITH_NETWORKS else []
    run, picture = str(folder / name), str(folder / f"{name}.png")
    metric = ["--metric", METRIC, "--metrics", "brightness96"]
    return [
        ["framework", "sample", run, "--grid", "2x2", "--out", picture, *network],
        ["framework", "evaluate", run, *metric, "--device", "cpu", "--no-progress", *network],
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of all examples, begun, and continued by a second command; and what was sampled of them."""
    folder = tmp_path_factory.mktemp("examples")
    recipe, *flags = training(ON_TWO_PROCESSES, folder, 64)
    launched(ROOT / recipe, *flags, world=2, log=folder / "log")
    first = [training(name, folder, 32) for name in EXAMPLES if name != ON_TWO_PROCESSES]
    then = [training(name, folder, 96) for name in EXAMPLES]
    judged = [line for name in EXAMPLES for line in judging(name, folder)]
    program = [sys.executable, "-m", "tests.helpers.in_turn", json.dumps([*first, *then, *judged])]
    done = subprocess.run(program, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_trained_continued_sampled_and_evaluated(name: str, runs: Path) -> None:
    losses = dict(points(runs / name, "loss/G"))
    assert sorted(losses) == [32, 64, 96]
    assert all(np.isfinite(value) for value in losses.values())
    with Image.open(runs / f"{name}.png") as picture:
        assert np.asarray(picture).std() > 0
    ((images, measured),) = evaluations(runs / name)
    assert images == 96
    values = {metric: record["value"] for metric, record in measured.items()}
    assert values.keys() == {"brightness96", "brightness_spread96"}
    assert 0 < values["brightness96"] < 1
    assert values["brightness_spread96"] > 0


def test_a_term_of_ones_own_is_logged_as_it_is_and_with_its_weight(runs: Path) -> None:
    plain = dict(points(runs / "my_loss", "term/FeatureMatching"))
    weighted = dict(points(runs / "my_loss", "term/FeatureMatching_weighted"))
    assert all(value > 0 for value in plain.values())
    assert weighted == pytest.approx({images: 10.0 * value for images, value in plain.items()})
    assert dict(points(runs / "my_data", "term/SameCoverage")).keys() == {32, 64, 96}


def test_a_third_player_and_an_optimizer_of_ones_own_are_in_the_checkpoint(runs: Path) -> None:
    with Checkpoint.open(runs / "my_game/checkpoints/96") as checkpoint:
        kept = {key.split("/")[1] for key in checkpoint.keys("reader/")}
        assert kept == {"weight", "exp_avg", "exp_avg_sq"}
        assert checkpoint.record["players"]["reader"]["steps_taken"] == 3
        drawn = checkpoint.document("recipe.json")["samples"]["latents"]
    assert [(latent["type"], latent["name"]) for latent in drawn] == [("Gaussian", "z"), ("Categorical", "code")]
    assert dict(points(runs / "my_game", "grad_norm/reader")).keys() == {32, 64, 96}
    with Checkpoint.open(runs / "my_optimizer/checkpoints/96") as checkpoint:
        assert {key.split("/")[1] for key in checkpoint.keys("generator/")} >= {"exp_avg", "exp_inf"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_one_short_file_that_shows_its_commands_and_imports_public_names(name: str) -> None:
    text = (ROOT / f"examples/{name}.py").read_text()
    assert 40 <= text.count("\n") <= 125
    assert text.endswith('if __name__ == "__main__":\n    launch(RECIPE)\n')
    documented = ast.get_docstring(ast.parse(text)) or ""
    for command in (f"examples/{name}.py", f"framework sample runs/{name}", f"framework evaluate runs/{name}"):
        assert command in documented
    inner = re.findall(r"^from (framework\.\S+) import", text, flags=re.MULTILINE)
    assert set(inner) <= {"framework.networks"}
