"""A launch tries networks before it writes anything, and refuses what it has seen in one sentence with the remedy."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from framework import Adam, Alternating, Draw, Hinge, Network, Player, Recipe, Shards
from framework.objectives.adversarial import AdversarialLoss
from framework.train.config import RunConfig
from framework.train.dry_run import plan
from framework.train.memory import fewest_micro_batches
from framework.train.network_check import Setting, check_networks
from framework.utils.errors import FrameworkError
from tests.helpers import newcomers
from tests.helpers.families import FAMILIES
from tests.helpers.launch import ROOT
from tests.helpers.play import small_recipe

ALONE, TWO, CUT = Setting(world=1), Setting(world=2), Setting(world=1, micro_batches=2)


def recipe(
    generator: type[nn.Module] = newcomers.Generator,
    discriminator: type[nn.Module] = newcomers.Discriminator,
    loss: AdversarialLoss | None = None,
) -> Recipe:
    return Recipe(
        name="newcomer",
        paper="none",
        data=Shards(location="nowhere", resolution=8, channels=1),
        generator=Player(network=Network(generator), optimizer=Adam(lr=1e-3)),
        discriminator=Player(network=Network(discriminator), optimizer=Adam(lr=1e-3)),
        game=Alternating(loss=loss or Hinge()),
        batch_size=16,
        images=64,
    )


def player(cls: type[nn.Module]) -> Recipe:
    return recipe(generator=cls) if issubclass(cls, newcomers.Generator) else recipe(discriminator=cls)


def files() -> list[Path]:
    found = [*(ROOT / "recipes").glob("*.py"), *(ROOT / "tests/recipes").glob("*.py")]
    return sorted(file for file in found if file.stem not in ("__init__", "newcomer"))


@pytest.mark.parametrize("file", files(), ids=lambda file: file.stem)
def test_every_recipe_passes_without_a_warning(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRUPT_AT_IMAGES", "0")
    spec = importlib.util.spec_from_file_location(f"checked_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    recipes = [value for value in vars(module).values() if isinstance(value, Recipe)]
    assert recipes
    for one in recipes:
        assert check_networks(one, ALONE) == []
        if one.game.looked_ahead():  # which takes whole batches
            continue
        assert check_networks(replace(one, batch_size=16, growth=None), replace(TWO, micro_batches=2)) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_passes_without_a_warning(name: str) -> None:
    assert check_networks(FAMILIES[name], replace(TWO, micro_batches=2)) == []


@pytest.mark.parametrize("network", ["FrozenNorm", "OurNorm", "Demanding", "TorchDropoutOff", "Numbers", "Groups"])
def test_what_only_looks_like_a_fault_is_not_refused(network: str) -> None:
    assert check_networks(player(getattr(newcomers, network)), TWO) == []


def test_dropout_by_seeds_passes_in_both_players() -> None:
    dropping = recipe(newcomers.DroppingGenerator, newcomers.DroppingDiscriminator)
    assert check_networks(dropping, replace(TWO, micro_batches=2)) == []


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("WithoutLength", r"generator\.network: WithoutLength has no attribute z_dim: set self\.z_dim"),
        (
            "WithoutLabels",
            r"generator\.network: WithoutLabels\.forward\(z\) cannot be called with latents and labels",
        ),
        ("Larger", r"Larger returns images of shape \(16, 1, 16, 16\) where the data has \(16, 1, 8, 8\)"),
        ("Doubles", r"Doubles returns images of torch\.float64: they must be torch\.float32"),
        ("Pair", "Pair returns a tuple: it must return the images alone"),
        ("Detached", "Detached returns images through which no gradient reaches its parameters"),
        ("Misfit", r"Misfit\.forward fails: RuntimeError: mat1 and mat2 .*\(newcomers\.py:\d+\)"),
        ("HiddenOptions", r"cannot be built: TypeError: .*\(newcomers\.py:\d+\); write out the options behind \*\*"),
        (
            "TorchDropout",
            r"between\.1 \(torch\.nn\.Dropout\) draws random numbers .*networks\.blocks\.dropout\.Dropout",
        ),
        ("RandomSlope", r"between \(torch\.nn\.RReLU\) draws .* use torch\.nn\.LeakyReLU"),
        ("FunctionalDropout", r"discriminator\.network: .* \(torch's bernoulli_\) draws .*blocks\.dropout\.Dropout"),
        ("Noisy", r"forward \(torch's randn_like\) draws random numbers .* a method stochastic\(draw\)"),
        ("OwnGenerator", r"forward \(torch's rand\) draws random numbers"),
        ("NumpyNoise", r"forward \(numpy\.random\) draws random numbers"),
        ("PythonNoise", r"forward \(random\) draws random numbers"),
        ("NumbersAndDropout", r"torch's bernoulli_\) draws"),
        ("Column", r"Column returns logits of shape \(16, 1\) for 16 images: .* \.squeeze\(1\) drops"),
        ("Booleans", r"Booleans returns logits of torch\.bool"),
        ("DrawingInputs", r"forward \(torch's randn\) draws random numbers"),
        ("NoInputs", r"NoInputs\.stochastic\(draw\) returns a Tensor, it must return a dictionary"),
        (
            "DemandingGenerator",
            r"DemandingGenerator\.forward\(z, labels, dropout\) cannot be called with latents and labels",
        ),
        ("Lazy", r"discriminator\.network: first\.weight has no size before the first forward"),
        ("SeedlessDropout", r"discriminator\.network: Dropout\(layer=0\): no seeds in training; ask for dropout_seeds"),
        (
            "UnwantedInputs",
            r"UnwantedInputs\.stochastic\(draw\) gives what UnwantedInputs\.forward does not take: drop",
        ),
    ],
)
def test_what_can_never_be_trained_is_refused_on_one_process_too(network: str, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        check_networks(player(getattr(newcomers, network)), ALONE)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("TorchNorm", r"between \(torch\.nn\.BatchNorm1d\) normalises by the images of one process.*norm\.BatchNorm2d"),
        ("FunctionalNorm", r"forward \(torch\.nn\.functional\.batch_norm\) normalises by the images of one process"),
        ("Counting", r"forward changes mean, .*networks\.blocks\.moving\.MovingMean"),
    ],
)
def test_what_one_process_bears_is_refused_on_two_or_with_two_micro_batches(network: str, message: str) -> None:
    chosen = player(getattr(newcomers, network))
    for setting in (TWO, CUT, replace(ALONE, cuts_more=True)):
        with pytest.raises(FrameworkError, match=message):
            check_networks(chosen, setting)
    (note,) = check_networks(chosen, ALONE)
    assert "this run does without, on one process with one micro-batch" in note


def test_torchs_spectral_norm_is_refused_with_micro_batches_alone() -> None:
    chosen = player(newcomers.TorchSpectralNorm)
    with pytest.raises(
        FrameworkError, match=r"first \(.*\) iterates in every forward.*blocks\.spectral\.spectral_norm"
    ):
        check_networks(chosen, CUT)
    for setting in (ALONE, TWO):
        (note,) = check_networks(chosen, setting)
        assert "with one micro-batch" in note


def test_a_synchronised_norm_is_named_although_it_cannot_run_without_a_device() -> None:
    with pytest.raises(FrameworkError, match=r"torch\.nn\.SyncBatchNorm\) normalises"):
        check_networks(player(newcomers.TorchSyncNorm), replace(TWO, on_cpu=False))


def test_what_could_not_be_tried_is_said_and_not_refused() -> None:
    for cls in (newcomers.Talkative, newcomers.Misfit):
        (note,) = check_networks(player(cls), replace(TWO, on_cpu=cls is newcomers.Talkative))
        assert f"network was not checked: {cls.__name__}.forward runs neither on meta tensors" in note
        assert "newcomers.py" in note


def test_every_fault_of_both_players_is_named_at_once() -> None:
    with pytest.raises(FrameworkError) as caught:
        check_networks(recipe(newcomers.Larger, newcomers.Noisy), TWO)
    first, second = str(caught.value).splitlines()
    assert first.startswith("generator.network: Larger")
    assert second.startswith("discriminator.network: Noisy")


def test_a_growing_recipe_is_tried_at_every_resolution() -> None:
    chosen = FAMILIES["ProGAN in mid-fade"]

    class Coarse(chosen.generator.network.cls):  # type: ignore[misc, name-defined]
        """Right at the end only."""

        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            images = super().forward(z, labels)
            return images if images.shape[-1] > 8 else images[:, :, :-1]

    network = Network(Coarse, **chosen.generator.network.options)
    with pytest.raises(FrameworkError, match=r"\(8, 3, 3, 4\) where the data has \(8, 3, 4, 4\).* at 4x4"):
        check_networks(replace(chosen, generator=replace(chosen.generator, network=network)), ALONE)


class PerImage:
    """A loss that forgets its mean."""

    needs_real_logits: ClassVar[bool] = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return (fake_logits - real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return -fake_logits


class Broken(PerImage):
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        raise KeyError("margin")


class Cut(PerImage):
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return real_logits.detach().mean()


class Drawn(PerImage):
    """One whose random numbers are one too many."""

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return -fake_logits.mean()

    def drawn(self, draw: Draw) -> AdversarialLoss:
        loss = Drawn()
        loss.discriminator = lambda real, fake: (real * draw.uniform("targets")[1:]).mean()
        return loss


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Drawn, r"game\.loss: Drawn\.discriminator fails on 16 logits: .*size of tensor"),
        (PerImage, r"game\.loss: PerImage\.generator returns a tensor of shape \(16,\): it must be a scalar"),
        (
            Broken,
            r"game\.loss: Broken\.discriminator fails on 16 logits: KeyError: 'margin' \(test_network_check\.py:\d+\)",
        ),
        (Cut, r"game\.loss: Cut\.discriminator returns a tensor of shape \(\) without a gradient"),
    ],
)
def test_a_loss_is_tried_on_logits(loss: type[AdversarialLoss], message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        check_networks(recipe(loss=loss()), ALONE)


def test_a_game_that_nobody_can_play_is_refused() -> None:
    class Solitaire:
        players, averaged = ("generator", "discriminator"), ("generator",)

        def check(self, recipe: object) -> None: ...

        def images_per_step(self, batch_size: int) -> int:
            return batch_size

    with pytest.raises(FrameworkError, match="game=Solitaire: no such game can be played; use Alternating"):
        check_networks(replace(small_recipe(), game=Solitaire()), ALONE)


def test_memory_that_cannot_be_estimated_is_unknown_and_not_a_traceback() -> None:
    chosen = player(newcomers.Numbers)
    report = plan(chosen, RunConfig(), world=1, device=torch.device("cpu"))
    assert report["parameters"]["discriminator"] == 8 * 64 + 8 + 8 + 1
    assert report["memory_bytes_per_process"]["weights"] == 4 * report["parameters"]["total"]
    assert report["memory_bytes_per_process"]["activations"] is None
    with pytest.raises(
        FrameworkError, match=r"the memory cannot be estimated: Numbers does not run on meta .* give --micro-batches"
    ):
        fewest_micro_batches(chosen, chosen.segments()[0], RunConfig(), world=1, usable=1e9)
    dropping = recipe(newcomers.DroppingGenerator, newcomers.DroppingDiscriminator)
    assert plan(dropping, RunConfig(), world=1, device=torch.device("cpu"))["memory_bytes_per_process"]["total"] > 0
