"""`framework sample` on a checkpoint that training wrote."""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.__main__ import run as call
from framework.checkpoint import Checkpoint
from framework.sampling.load import load_generator
from tests.helpers.launch import TINY, environment, run

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(TINY, "--images", "64", "--tracking", "none", "--out", str(folder / "run"), world=1, log=folder / "log")
    return folder / "run"


def sample_in_a_process(*arguments: object, status: int = 0) -> str:
    """The command as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "framework", "sample", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def sample(*arguments: object, status: int = 0) -> str:
    """What the command does once Python has started and imported torch, which takes longer than all of it."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            found = call("sample", [str(argument) for argument in arguments])
        except SystemExit as end:  # of a command line that is not understood
            found = end.code
    assert found == status, printed.getvalue()
    return printed.getvalue()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    for program, name in ((sample, "a"), (sample_in_a_process, "b")):
        program(trained, "--seed", 1, "--grid", "3x2", "--truncation", 0.7, "--out", tmp_path / f"{name}.png")
    sample(trained, "--seed", 2, "--grid", "3x2", "--out", tmp_path / "c.png")
    assert sha256(tmp_path / "a.png") == sha256(tmp_path / "b.png") != sha256(tmp_path / "c.png")


def test_classes_by_name_and_number_and_arrays(trained: Path, tmp_path: Path) -> None:
    sample(
        trained / "checkpoints/64", "--classes", "trouser", "8", "--grid", "9x3", "--out", tmp_path / "g.png",
        "--npz", tmp_path / "g.npz", "--count", 5,
    )  # fmt: skip
    with np.load(tmp_path / "g.npz") as arrays:
        assert arrays["images"].shape == (5, 32, 32, 1)
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [1, 8, 1, 8, 1]
    with Image.open(tmp_path / "g.png") as picture:
        assert picture.width == 2 + 2 * (32 + 2)


def test_only_the_averaged_weights_are_read(trained: Path, tmp_path: Path) -> None:
    import shutil

    copied = tmp_path / "64"
    shutil.copytree(trained / "checkpoints/64", copied)
    for state in copied.glob("state-*.safetensors"):
        state.unlink()
    sample(copied, "--grid", "2x2", "--out", tmp_path / "a.png")
    sample(trained, "--grid", "2x2", "--out", tmp_path / "b.png")
    assert sha256(tmp_path / "a.png") == sha256(tmp_path / "b.png")


def test_interpolation_writes_a_strip_and_a_film(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "walk.webp"
    sample(trained, "--interpolate", "--classes", "1", "9", "--grid", "5x1", "--frames", "6", "--out", out)
    with Image.open(out) as film:
        assert film.n_frames == 6
    assert out.with_suffix(".png").exists()


def test_an_mp4_has_its_frames(trained: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    out = tmp_path / "walk.mp4"
    sample(trained, "--interpolate", "--classes", "3", "--frames", "8", "--out", out)
    with av.open(str(out)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 8


def test_standing_statistics_and_raw_weights_change_the_images(trained: Path, tmp_path: Path) -> None:
    sample(trained, "--grid", "2x2", "--out", tmp_path / "a.png")
    sample(trained, "--grid", "2x2", "--standing-statistics", 4, "--out", tmp_path / "b.png")
    sample(trained, "--grid", "2x2", "--weights", "raw", "--out", tmp_path / "c.png")
    assert len({sha256(tmp_path / f"{name}.png") for name in "abc"}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--classes", "sofa"), "knows the names T-shirt/top"),
        (("--classes", "12"), "0 ... 9"),
        (("--grid", "8"), "COLUMNSxROWS"),
        (("--truncation", "-1"), "must be at least 0.05"),
        (("--device", "nonsense"), "--device nonsense"),
        (("--npz", "x"), "must end in .npz"),
    ],
)
def test_wrong_arguments_are_explained(trained: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in " ".join(sample(trained, *arguments, "--out", tmp_path / "x.png", status=2).split())


def test_a_folder_without_checkpoint_is_an_error(tmp_path: Path) -> None:
    assert "no checkpoint" in sample(tmp_path, status=2)
    assert "no such" in sample_in_a_process(tmp_path / "missing", status=2)


def test_the_library_loads_what_training_averaged(trained: Path) -> None:
    loaded = load_generator(trained)
    with Checkpoint.open(trained / "checkpoints/64") as checkpoint:
        for name, parameter in loaded.network.named_parameters():
            assert parameter.equal(checkpoint.full(f"generator/ema/{name}"))
    assert (loaded.images_seen, loaded.classes, loaded.z_dim) == (64, 10, 8)
    assert not loaded.network.training
