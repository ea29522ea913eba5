"""A stacked GAN from a launch to figures: it is stopped before its levels come together, resumed, sampled, measured."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from framework.__main__ import run as call
from framework.checkpoint import Checkpoint
from framework.data.manifest import file_sha256
from framework.networks.stacked import Encoder
from framework.utils.importing import named_in_file
from tests.helpers.journals import evaluations, records
from tests.helpers.launch import ROOT, run, unequal

pytestmark = pytest.mark.timeout(300)
RECIPE = ROOT / "tests/recipes/tiny_stacked.py"
TRAINED = ROOT / "recipes/stacked_gan_fashion.py"
ENCODER = ROOT / "recipes/data/fashion_encoder"
FLAGS = ("--log-every-images", "40", "--sample-every-images", "80", "--tracking", "none", "--device", "cpu")


def command(*arguments: object) -> str:
    """What a command of `framework` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        found = call(str(arguments[0]), [str(argument) for argument in arguments[1:]])
    assert found == 0, printed.getvalue()
    return printed.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run without a break; beside it, in `stopped`, the same in three launches, the second of which ends together.

    The levels come together at 80 images.
    """
    folder = tmp_path_factory.mktemp("stacked")
    run(RECIPE, *FLAGS, "--out", str(folder / "run"), world=1, log=folder / "log")
    for images in ("40", "120", "160"):
        run(RECIPE, *FLAGS, "--images", images, "--out", str(folder / "stopped"), world=1, log=folder / "log")
    return folder / "run"


def test_a_run_in_three_launches_is_equal_to_the_bit(trained: Path) -> None:
    stopped = trained.parent / "stopped"
    assert unequal(trained / "checkpoints/160", stopped / "checkpoints/160") == []
    name = "samples/ema-000000160.png"
    assert (trained / name).read_bytes() == (stopped / name).read_bytes()


def test_every_loss_is_logged_and_the_encoder_is_in_no_checkpoint(trained: Path) -> None:
    (last,) = [
        one["values"] for one in records(trained, "metrics") if one["images"] == 160 and "loss/D" in one["values"]
    ]
    for name in ("loss/D", "loss/G", "logits/real_features", "logits/fake_images", "health/discriminator_loss_share"):
        assert np.isfinite(last[name]), name
    for term in ("LabelCondition", "FeatureCondition", "NoiseEntropy"):
        assert last[f"term/{term}"] > 0
    with Checkpoint.open(trained / "checkpoints/160") as checkpoint:
        assert {key.split("/")[0] for key in checkpoint.keys("")} == {"generator", "discriminator"}
        drawn = checkpoint.document("recipe.json")["samples"]["latents"]
    assert [(one["type"], one["name"], one["width"]) for one in drawn] == [("Uniform", "z1", 4), ("Uniform", "z0", 4)]


def test_it_is_sampled_and_measured(trained: Path, tmp_path: Path) -> None:
    arrays = tmp_path / "images.npz"
    flags = ("--classes", "trouser", "bag", "--npz", arrays, "--count", 6, "--out", tmp_path / "grid.png")
    command("sample", trained, *flags, "--no-progress")
    with np.load(arrays) as held:
        assert held["images"].shape == (6, 32, 32, 1)
        assert len({image.tobytes() for image in held["images"]}) == 6
    data = ("--data", ROOT / "recipes/data/fashion_mnist", "--extractor", "fashion_classifier")
    command("evaluate", trained, "--metrics", "fd64", *data, "--device", "cpu", "--no-progress")
    ((images, measured),) = evaluations(trained)
    assert images == 160
    assert all(np.isfinite(record["value"]) for record in measured.values())


def test_the_shipped_encoder_is_the_recipes_and_as_good_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accuracy in the file is that of the pictures which its training held out."""
    monkeypatch.syspath_prepend(str(ENCODER))
    import train

    recipe = named_in_file(f"{TRAINED}:RECIPE", flag="", example="")[0].RECIPE
    assert recipe.helpers["encoder"].sha256 == file_sha256(ENCODER / "encoder.safetensors")
    with safe_open(ENCODER / "encoder.safetensors", framework="pt") as stored:
        told = float(stored.metadata()["about"].rpartition(" ")[2])
    network = recipe.helpers["encoder"].network.build()
    assert isinstance(network, Encoder)
    network.load_state_dict(load_file(ENCODER / "encoder.safetensors"))
    images, labels = train.read(ROOT / "recipes/data/fashion_mnist")
    found = train.share_of_right(network, images[-train.HELD_OUT :], labels[-train.HELD_OUT :])
    assert found == pytest.approx(told, abs=5e-4), "as it is rounded"
    assert found > 0.85
    assert torch.stack([(labels == label).sum() for label in range(10)]).tolist() == [175] * 10
