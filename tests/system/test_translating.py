"""A run that translates, from pairs in a folder to rows, figures and an exported network."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.__main__ import run as call
from framework.checkpoint import Checkpoint
from framework.review.page import render
from framework.review.panels import charts
from framework.review.run import read_run
from tests.helpers.journals import records
from tests.helpers.launch import ROOT, run, unequal
from tests.helpers.pairs import packed_pairs

pytestmark = pytest.mark.timeout(300)
RECIPE = ROOT / "tests/recipes/tiny_pix2pix.py"
OFTEN = ("--log-every-images", "40", "--sample-every-images", "80", "--eval-every-images", "80", "--tracking", "none")


def command(*arguments: object, status: int = 0) -> str:
    """What a command of `framework` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        found = call(str(arguments[0]), [str(argument) for argument in arguments[1:]])
    assert found == status, printed.getvalue()
    return printed.getvalue()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pairs")
    return {
        split: packed_pairs(folder / split, count=count, seed=count) for split, count in (("train", 40), ("test", 11))
    }


@pytest.fixture(scope="module")
def trained(pairs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run without a break, and beside it, in `stopped`, the same in two launches."""
    folder = tmp_path_factory.mktemp("trained")
    flags = ("--data", str(pairs["train"]), "--set", f"held_out.location={pairs['test']}", *OFTEN)
    run(RECIPE, *flags, "--out", str(folder / "run"), world=1, log=folder / "log")
    for images in ("80", "160"):
        run(RECIPE, *flags, "--images", images, "--out", str(folder / "stopped"), world=1, log=folder / "log")
    return folder / "run"


def test_a_run_in_two_launches_is_equal_to_the_bit(trained: Path) -> None:
    stopped = trained.parent / "stopped"
    assert unequal(trained / "checkpoints/160", stopped / "checkpoints/160") == []
    name = "samples/ema-000000160.png"
    assert (trained / name).read_bytes() == (stopped / name).read_bytes()


def test_what_is_shown_and_measured_is_of_held_out_pairs(trained: Path) -> None:
    shown = records(trained, "image")
    assert [(one["key"], one["images"]) for one in shown] == [("samples/ema", images) for images in (0, 80, 160)]
    assert all("in rows input, output, target" in one["description"] for one in shown)
    values: dict[str, list[float]] = {}
    for record in records(trained, "metrics"):
        for name, value in record["values"].items():
            values.setdefault(name, []).append(value)
    (figures,) = [found for name, found in values.items() if name.startswith("metrics/paired_l1")]
    assert len(figures) == 2
    assert figures[1] < figures[0], "it learns"
    # Sentinels look at what a game of pairs has, and find nothing wrong.
    health = {name for name in values if name.startswith("health/")}
    assert "health/discriminator_loss_share" in health
    assert not {name for name in health if "diversity" in name or "sign_real" in name}
    assert set(values["health/state"]) == {0.0}
    run = read_run(trained)
    assert "in rows input, output, target" in render([run])
    (terms,) = (chart for chart in charts([run]) if chart["title"] == "Further terms")
    assert [line["name"] for line in terms["lines"]] == ["term/L1", "term/L1_weighted"]


def test_rows_and_arrays_of_a_checkpoint(trained: Path, pairs: dict[str, Path], tmp_path: Path) -> None:
    picture, arrays = tmp_path / "rows.png", tmp_path / "rows.npz"
    flags = ("--data", pairs["test"], "--grid", "4x2", "--out", picture, "--npz", arrays)
    command("sample", trained, *flags, "--count", 99, "--no-progress")
    with np.load(arrays) as held:
        assert {name: held[name].shape for name in held} == {
            "images": (11, 16, 16, 3),
            "sources": (11, 16, 16, 1),
            "targets": (11, 16, 16, 3),
        }
        sources, made, target = (held[name].astype(int) for name in ("sources", "images", "targets"))
    with Image.open(picture) as grid:
        assert grid.height == 2 + 2 * 3 * (64 + 2), "two times input, output, target"
        second = np.asarray(grid)[2 + 3 * 66 :, grid.width - 4 * 66 :]
    for row, expected in enumerate((sources, made, target)):
        found = second[row * 66 :][:64:4, :64:4]
        assert (found == expected[4]).all(), "below the first four pairs comes the fifth"

    # The figure of the same translations, as the run has it, and of the arrays.
    said = command("evaluate", trained, "--data", pairs["test"], "--metrics", "paired_l1", "--json", "--no-progress")
    value = json.loads(said)["paired_l1"]["value"]
    assert value == pytest.approx(np.abs(made - target).mean() / 255, rel=1e-12)
    figures = [
        found
        for record in records(trained, "metrics")
        for name, found in record["values"].items()
        if name.startswith("metrics/paired_l1")
    ]
    assert figures[-1] == value


def test_flags_that_are_for_latents_are_refused(trained: Path, pairs: dict[str, Path], tmp_path: Path) -> None:
    place = ("--out", tmp_path / "a.png")
    assert "name packed pairs with the fields 'source' and 'target'" in command("sample", trained, *place, status=2)
    data = ("--data", pairs["test"])
    for flags in (("--interpolate",), ("--classes", "1"), ("--truncation", "0.5"), ("--standing-statistics", "2")):
        assert f"{flags[0]}: this network translates pictures" in command(
            "sample", trained, *place, *data, *flags, status=2
        )
    for flags in (("--truncation", "0.5"), ("--standing-statistics", "2")):
        said = command("evaluate", trained, *data, "--metrics", "paired_l1", *flags, status=2)
        assert f"{flags[0]}: this network translates pictures" in said


def test_it_is_exported(trained: Path, tmp_path: Path) -> None:
    command("export", trained, "--to", "huggingface", "--out", tmp_path / "out")
    network = json.loads((tmp_path / "out/config.json").read_text())["network"]
    assert network["class"] == "framework.networks.pix2pix.Generator"
    assert network["options"]["source_channels"] == 1
    assert network["options"]["inference_statistics"] == "running"
    with Checkpoint.open(trained / "checkpoints/160") as checkpoint:
        assert checkpoint.document("recipe.json")["samples"]["kind"] == "translations"
