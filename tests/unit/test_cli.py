"""The `framework` command and `--dry-run`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import tyro
from PIL import Image

from framework.__main__ import COMMANDS, run, split
from framework.train.config import RunConfig
from framework.train.launch import configured, launch
from tests.helpers.launch import ROOT
from tests.helpers.play import small_recipe

KNOWN = {
    (network["generator"]["resolution"], network["generator"]["classes"]): network["parameters"]
    for network in json.loads((ROOT / "tests/golden/known_parameters.json").read_text())["networks"]
    if network["name"].startswith("SAGAN")
}


def framework(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "framework", *arguments], capture_output=True, text=True)


def dry_run(recipe: str, *flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = ROOT / "recipes" / f"{recipe}.py"
    return subprocess.run(
        [sys.executable, str(path), "--dry-run", *flags], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_help_lists_every_command() -> None:
    text = framework("--help").stdout
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_the_terminal_cannot_show(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class named in Japanese, and a file whose name is not UTF-8: of a command, and of a launch."""
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "pictures" / name / "1.png")
    flags = ("--resolution", "8", "--class-names", "日本", "other")
    packed = str(tmp_path / "caf\udce9")
    with TextIOWrapper(BytesIO(), encoding=encoding) as shown:
        monkeypatch.setattr(sys, "stdout", shown)
        assert run("pack", [str(tmp_path / "pictures"), packed, *flags]) == 0
        assert run("data inspect", [packed]) == 0
        launch(replace(small_recipe(), paper="日本"), arguments=["--dry-run"])
        shown.flush()
        text = shown.buffer.getvalue().decode(encoding)
    assert text.count("日本" if encoding == "utf-8" else "\\u65e5\\u672c") >= 2
    assert "caf\\udce9" in text


def test_ctrl_c_ends_a_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tyro, "cli", interrupted)
    assert run("data inspect", ["data"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_two_word_commands() -> None:
    assert split(["data", "verify", "x"]) == ("data verify", ["x"])
    assert split(["sample", "x"]) == ("sample", ["x"])


def test_an_unknown_command_names_the_nearest() -> None:
    done = framework("smaple")
    assert done.returncode == 2
    assert "no command 'smaple'; nearest: sample" in done.stderr


@pytest.mark.parametrize(
    ("recipe", "known"),
    [("sagan_imagenet128", (128, 1000)), ("sagan_imagenet128_biggan", (128, 1000)), ("sagan_cifar10", (32, 10))],
)
def test_dry_run_counts_the_known_parameters_and_writes_nothing(
    recipe: str, known: tuple[int, int], tmp_path: Path
) -> None:
    done = dry_run(recipe, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    expected = KNOWN[known]
    assert (report["parameters"]["generator"], report["parameters"]["discriminator"]) == (
        expected["generator"],
        expected["discriminator"],
    )
    assert report["memory_bytes_per_process"]["weights"] == 4 * report["parameters"]["total"]
    assert report["memory_bytes_per_process"]["activations"] > 0
    assert list(tmp_path.iterdir()) == []


def test_dry_run_shows_the_change_and_a_wrong_one_is_an_error(tmp_path: Path) -> None:
    done = dry_run(
        "sagan_fashion", "--json", "--set", "generator.optimizer.lr=5e-4", "--batch-size", "32", cwd=tmp_path
    )
    recipe = json.loads(done.stdout)["recipe"]
    assert recipe["generator"]["optimizer"]["lr"] == 5e-4
    assert recipe["batch_size"] == 32
    done = dry_run("sagan_fashion", "--set", "generator.optimizer.l=5e-4", cwd=tmp_path)
    assert done.returncode == 2
    assert "generator.optimizer.lr" in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_for_people(tmp_path: Path) -> None:
    text = dry_run("sagan_fashion", cwd=tmp_path).stdout
    assert "Parameters" in text
    assert "nothing was written" in text


def test_an_engine_that_cannot_work_is_refused_at_the_start(tmp_path: Path) -> None:
    done = dry_run("sagan_fashion", "--engine", "zero3", cwd=tmp_path)
    assert done.returncode == 2
    assert "zero3 shards over the processes of a launch, and this is one process; use --engine ddp" in done.stderr


def test_flags_reach_the_recipe() -> None:
    config = RunConfig(images=5_000, batch_size=6, seed=9, set=("averaging.half_life_images=7",))
    recipe = configured(small_recipe(), config)
    assert (recipe.images, recipe.batch_size, recipe.seed) == (5_000, 6, 9)
    assert recipe.averaging.half_life_images == 7


def test_the_number_of_flags_is_kept_small() -> None:
    assert len(RunConfig.__dataclass_fields__) <= 37, "science belongs in the recipe (--set), not in flags"
