"""Networks as newcomers write them, launched as newcomers launch: refused before anything is written, or used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from framework.checkpoint import list_checkpoints
from tests.helpers.launch import ROOT, Launch, environment

RECIPE = ROOT / "tests" / "recipes" / "newcomer.py"
NAMED = f"{RECIPE}:Normed"


def framework(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "framework", *arguments], capture_output=True, text=True, env=environment(), cwd=ROOT
    )


def test_torchs_batch_norm_on_two_processes_is_refused_in_one_sentence_before_a_folder_is_made(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Launch(RECIPE, "--tracking", "none", "--out", str(out), world=2, log=tmp_path / "log") as launch:
        assert launch.wait() != 0
        text = launch.text()
    sentence = (
        "error: generator.network: Normed: between (torch.nn.BatchNorm1d) normalises by the images of one process"
    )
    assert text.count(sentence) == 1
    assert "framework.networks.blocks.norm.BatchNorm2d" in text
    assert not out.exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run on one process, and what it said."""
    folder = tmp_path_factory.mktemp("newcomer")
    flags = ("--tracking", "none", "--out", str(folder / "run"))
    with Launch(RECIPE, *flags, world=1, log=folder / "log") as launch:
        assert launch.wait() == 0, launch.text()
        return folder / "run", launch.text()


def test_on_one_process_it_is_warned_about_once_and_trained(trained: tuple[Path, str]) -> None:
    run, text = trained
    assert text.count("warning:") == 1
    assert "warning: generator.network: Normed: between (torch.nn.BatchNorm1d) normalises" in text
    assert list_checkpoints(run / "checkpoints") == [64]


def test_a_recipe_files_own_network_is_sampled_when_the_user_names_it(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    run, _ = trained
    picture = tmp_path / "grid.png"
    refused = framework("sample", str(run), "--out", str(picture))
    assert refused.returncode == 2
    assert "'__main__.Normed' is not part of framework.networks" in refused.stderr
    assert "--network RECIPE.py:Normed" in refused.stderr
    assert not picture.exists()
    done = framework("sample", str(run), "--network", NAMED, "--grid", "2x2", "--out", str(picture))
    assert done.returncode == 0, done.stderr
    assert picture.exists()


def test_it_is_evaluated_too(trained: tuple[Path, str], tmp_path: Path) -> None:
    run, _ = trained
    flags = ("--metrics", "fd64", "--extractor", "fashion_classifier", "--data", "recipes/data/fashion_mnist", "--json")
    where = ("--cache-folder", str(tmp_path), "--device", "cpu", "--no-record", "--reference-count", "64")
    done = framework("evaluate", str(run), "--network", NAMED, *flags, *where)
    assert done.returncode == 0, done.stderr
    assert '"value"' in done.stdout


def test_draws_that_begin_in_the_middle_of_a_run_stop_it_before_it_saves(tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ("--tracking", "none", "--out", str(out), "--images", "640", "--save-every-images", "64")
    extra = {"FRAMEWORK_TEST_NETWORK": "late"}
    with Launch(RECIPE, *flags, world=1, log=tmp_path / "log", extra=extra) as launch:
        assert launch.wait() == 2
        text = launch.text()
    # Two forwards a step, of 16 images: the ninth forward is in the fifth step.
    assert "error: at 64 images a network, the loss, a penalty or an augmentation" in text
    assert "drew from torch's own random numbers" in text
    assert list_checkpoints(out / "checkpoints") == [64]
