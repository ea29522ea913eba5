"""docs/extending.md is a recipe file: its pieces, put together, train, continue and sample."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.checkpoint import Checkpoint
from tests.helpers.journals import evaluations, points

ROOT = Path(__file__).parents[2]


def run(*arguments: object, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_the_page_is_a_recipe(tmp_path: Path) -> None:
    page = (ROOT / "docs/extending.md").read_text()
    program = tmp_path / "my_recipe.py"
    program.write_text("\n\n".join(re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)))
    where = ("--data", ROOT / "recipes/data/fashion_mnist", "--out", "runs/mine", "--tracking", "none")
    flags = ("--log-every-images", 64, "--set", "game.loss.margin=0.5")
    run(program, *where, *flags, "--images", 128, cwd=tmp_path)
    run(program, *where, *flags, "--images", 256, cwd=tmp_path)  # the same run goes on

    # The loss, its field, the game, the penalty, the schedule and the optimiser are in what was recorded.
    checkpoint = Checkpoint.open(tmp_path / "runs/mine/checkpoints/256")
    recipe = checkpoint.document("recipe.json")
    assert recipe["game"]["loss"] == {"type": "Margin", "margin": 0.5}
    assert recipe["generator"]["schedule"] == {"type": "Halving", "every_images": 20_000}
    assert recipe["discriminator"]["optimizer"] == {"type": "Adamax", "lr": 1e-3, "beta1": 0.5}
    assert recipe["game"]["type"] == "GeneratorTwice"
    assert [latent["name"] for latent in recipe["samples"]["latents"]] == ["z", "mode"]
    keys = set(checkpoint.keys())
    kept = {key.split("/")[1] for key in keys if key.startswith("discriminator/")}
    assert kept == {"weight", "exp_avg", "exp_inf"}
    assert checkpoint.record["players"]["discriminator"]["steps_taken"] == 256 // 16
    assert checkpoint.record["players"]["generator"]["steps_taken"] == 2 * 256 // 16
    found = dict(points(tmp_path / "runs/mine", "penalty/SmallLogits"))
    assert set(found) == {64, 128, 192, 256}
    assert all(value > 0 for value in found.values())

    network = f"{program}:Generator"
    sample = ("-m", "framework", "sample", "runs/mine", "--network", network, "--grid", "2x2")
    run(*sample, "--out", "grid.png", cwd=tmp_path)
    assert np.asarray(Image.open(tmp_path / "grid.png")).std() > 0
    judge = ("-m", "framework", "evaluate", "runs/mine", "--network", network, "--metric", f"{program}:Brightness")
    run(*judge, "--device", "cpu", "--no-progress", cwd=tmp_path)
    ((_, measured),) = evaluations(tmp_path / "runs/mine")
    assert 0 < measured["brightness"]["value"] < 255
