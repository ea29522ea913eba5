"""pix2pix's networks against recorded results: forwards, gradients, running statistics, losses, one whole step."""

import json
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from framework import L1, Adam, Image, Network, Paired, Player, Recipe, Shards
from framework.engines.base import StepReport
from framework.engines.choose import build_engine
from framework.engines.ema import EMA
from framework.games.microbatch import BatchPartition
from framework.games.runner import GameRunner
from framework.networks import pix2pix
from framework.networks.blocks import dropout
from framework.objectives.adversarial import AdversarialLoss, LeastSquares, NonSaturating, Wasserstein

from . import FOLDER, Case, load

FP32 = 1e-5
"""The tolerance, as a share of the largest value of each tensor; the recordings are fp32."""

FP64 = 1e-12

INSIDE = {1: "downs.{}.conv", 2: "downs.{}.norm", 5: "ups.{}.conv", 6: "ups.{}.norm"}
OUTERMOST = {0: "downs.{}.conv", 3: "ups.{}.conv"}
INNERMOST = {1: "downs.{}.conv", 3: "ups.{}.conv", 4: "ups.{}.norm"}
"""Where a level of the recorded U-Net, one sequence inside another, keeps its layers."""


def of_generator(recorded: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Recorded tensors of a U-Net by our names; a level is as deep as its name is long."""
    found = [(key.removeprefix(prefix), tensor) for key, tensor in recorded.items() if key.startswith(f"{prefix}model")]
    innermost = max(len(re.findall(r"model\.\d+", name)) for name, _ in found) - 1
    ours = {}
    for name, tensor in found:
        numbers = re.findall(r"model\.(\d+)", name)
        level, kind = len(numbers) - 1, name.rpartition(".")[2]
        table = INNERMOST if level == innermost else INSIDE if level else OUTERMOST
        if kind != "num_batches_tracked":
            ours[f"{table[int(numbers[-1])].format(level)}.{kind}"] = tensor
    return ours


def of_discriminator(recorded: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Recorded tensors of a PatchGAN (`model`) or PixelGAN (`net`) by our names: convolution, norm, activation, ..."""
    ours = {}
    for key, tensor in recorded.items():
        found = re.fullmatch(r"(?:model|net)\.(\d+)\.(\w+)", key.removeprefix(prefix))
        if key.startswith(prefix) and found and found[2] != "num_batches_tracked":
            number = int(found[1])
            name = f"norms.{number // 3 - 1}" if number and number % 3 == 0 else f"layers.{(number + 1) // 3}"
            ours[f"{name}.{found[2]}"] = tensor
    return ours


def compare_gradients(case: Case, network: nn.Module, recorded: dict[str, Tensor]) -> None:
    parameters = dict(network.named_parameters())
    assert recorded.keys() == parameters.keys()
    # The gradient of a bias in front of a norm is zero up to rounding: it has no scale of its own.
    largest = max(gradient.abs().max().item() for gradient in recorded.values())
    for name, gradient in recorded.items():
        own = gradient.abs().max().item()
        case.agrees(parameters[name].grad, gradient, tolerance=FP32, scale=own if own > 1e-6 * largest else largest)


def compare_state(case: Case, network: nn.Module, recorded: dict[str, Tensor], kinds: tuple[str, ...]) -> None:
    state = {name: tensor for name, tensor in network.state_dict().items() if name.endswith(kinds)}
    assert recorded.keys() == state.keys()
    for name, tensor in recorded.items():
        case.agrees(state[name], tensor, tolerance=FP32)


RUNNING = ("running_mean", "running_var")

UNETS = {
    "unet32_bn": {"num_downs": 5},
    "unet64_bn_dropout": {"num_downs": 6},
    "unet32_instance": {"num_downs": 5, "norm": "instance", "source_channels": 1},
}


@pytest.mark.parametrize("name", UNETS)
def test_generators(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = load("pix2pix_tiny", name)
    network = pix2pix.Generator(width=2, inference_statistics="running", inference_dropout=False, **UNETS[name])
    network.load_state_dict(of_generator(case.params))
    seeds = None
    if case.draws:
        # Whatever the seeds, the numbers under one half are where the recorded mask drops.
        (kept,) = case.draws.values()
        monkeypatch.setattr(dropout, "seeded_uniform", lambda seeds, layer, count: 0.25 + 0.5 * kept.flatten(1))
        seeds = torch.arange(len(kept))

    x = case.inputs["x"].requires_grad_()
    images = network(x, dropout=seeds)
    case.agrees(images, case.outputs["y"], tolerance=FP32)
    images.backward(case.inputs["dy"])
    case.agrees(x.grad, case.gradients.pop("x"), tolerance=FP32)
    compare_gradients(case, network, of_generator(case.gradients))
    if case.after:
        compare_state(case, network, of_generator(case.after), RUNNING)
    case.agrees(network.eval()(x), case.outputs["y_eval"], tolerance=FP32)


DISCRIMINATORS = {
    "patch70_bn": {"num_layers": 3},
    "patch70_instance": {"num_layers": 3, "norm": "instance", "source_channels": 0},
    "patch16_bn": {"num_layers": 1, "source_channels": 0},
    "pixel_bn": {"num_layers": 0},
}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators(name: str) -> None:
    case = load("pix2pix_tiny", name)
    network = pix2pix.Discriminator(width=4, **DISCRIMINATORS[name])
    network.load_state_dict(of_discriminator(case.params))

    x = case.inputs["x"].requires_grad_()
    pair = (x[:, 3:], x[:, :3]) if network.source_channels else (x,)  # the source comes first
    logits = network(*pair)
    case.agrees(logits, case.outputs["y"], tolerance=FP32)
    logits.backward(case.inputs["dy"])
    case.agrees(x.grad, case.gradients.pop("x"), tolerance=FP32)
    compare_gradients(case, network, of_discriminator(case.gradients))
    if case.after:
        compare_state(case, network, of_discriminator(case.after), RUNNING)
    case.agrees(network.eval()(*pair), case.outputs["y_eval"], tolerance=FP32)


LOSSES: dict[str, tuple[AdversarialLoss, float]] = {
    "vanilla": (NonSaturating(), 1.0),
    "nonsaturating": (NonSaturating(), 1.0),
    "lsgan": (LeastSquares(), 0.5),  # ours has the paper's factor
    "wgangp": (Wasserstein(), 1.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    """The recorded ones are means per image or over all, of what the discriminator wants of real and fake images."""
    case, (loss, factor) = load("pix2pix_tiny", f"ganloss_{name}"), LOSSES[name]
    real, fake = (case.outputs[kind].mean() for kind in ("real", "fake"))
    logits = case.inputs["pred"]
    case.agrees(loss.discriminator(logits, logits), factor * (real + fake), tolerance=FP64)
    case.agrees(loss.generator(logits), factor * real, tolerance=FP64)


def test_a_whole_step() -> None:
    """One fake for both turns: the discriminator's, then the generator's against the updated discriminator."""
    case = load("pix2pix_tiny", "pix2pix_step")
    generator = pix2pix.Generator(num_downs=5, width=2)
    discriminator = pix2pix.Discriminator(num_layers=2, width=4)
    generator.load_state_dict(of_generator(case.params, "G."))
    discriminator.load_state_dict(of_discriminator(case.params, "D."))
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "eps": 1e-8}
    of_d = torch.optim.Adam(discriminator.parameters(), **adam)
    of_g = torch.optim.Adam(generator.parameters(), **adam)
    source, real, loss = case.inputs["A"], case.inputs["B"], NonSaturating()

    fake = generator(source)
    case.agrees(fake, case.outputs["fake_B"], tolerance=FP32)

    on_fake, on_real = discriminator(fake.detach(), source), discriminator(real, source)
    case.agrees(functional.softplus(on_fake).mean(), case.outputs["loss_D_fake"], tolerance=FP32)
    case.agrees(functional.softplus(-on_real).mean(), case.outputs["loss_D_real"], tolerance=FP32)
    loss_d = 0.5 * loss.discriminator(on_real, on_fake)
    case.agrees(loss_d, case.outputs["loss_D"], tolerance=FP32)
    loss_d.backward()
    compare_gradients(case, discriminator, of_discriminator(case.gradients, "D."))
    of_d.step()

    discriminator.requires_grad_(False)
    adversarial = loss.generator(discriminator(fake, source))
    distance = 100.0 * (fake - real).abs().mean()
    case.agrees(adversarial, case.outputs["loss_G_GAN"], tolerance=FP32)
    case.agrees(distance, case.outputs["loss_G_L1"], tolerance=FP32)
    (adversarial + distance).backward()
    compare_gradients(case, generator, of_generator(case.gradients, "G."))
    of_g.step()

    kinds = ("weight", "bias", *RUNNING)
    compare_state(case, generator, of_generator(case.after, "G."), kinds)
    compare_state(case, discriminator, of_discriminator(case.after, "D."), kinds)


def test_a_whole_step_of_the_game() -> None:
    """The same step, played: turns, terms and optimisers of a recipe, on pictures as a data set has them."""
    case = load("pix2pix_tiny", "pix2pix_step")
    adam = Adam(lr=2e-4, betas=(0.5, 0.999))
    pair = Shards(location="pairs", fields=(Image("source", 32), Image("target", 32)))
    recipe = Recipe(
        name="pix2pix",
        paper="pix2pix, arXiv:1611.07004",
        data=pair,
        held_out=pair,
        generator=Player(network=Network(pix2pix.Generator, num_downs=5, width=2), optimizer=adam),
        discriminator=Player(network=Network(pix2pix.Discriminator, num_layers=2, width=4), optimizer=adam),
        game=Paired(loss=NonSaturating(), generator_terms=(L1(weight=100.0),)),
        batch_size=2,
        images=2,
    )
    players = {
        name: build_engine(recipe.build_network(name), player, side=name, engine="ddp", precision="fp32")
        for name, player in recipe.players.items()
    }
    generator, discriminator = (players[name].network for name in ("generator", "discriminator"))
    generator.load_state_dict(of_generator(case.params, "G."))
    discriminator.load_state_dict(of_discriminator(case.params, "D."))
    runner = GameRunner(
        recipe.game,
        players=players,
        averages={"generator": EMA(players["generator"])},
        recipe=recipe,
        partition=BatchPartition(batch_size=2),
    )

    # Gradients are there until the step that uses them has been taken.
    compared: list[str] = []
    of = {
        "generator": lambda: of_generator(case.gradients, "G."),
        "discriminator": lambda: of_discriminator(case.gradients, "D."),
    }

    def comparing(name: str, step: Callable[..., StepReport]) -> Callable[..., StepReport]:
        def compare_and_step(**options: object) -> StepReport:
            compare_gradients(case, players[name].network, of[name]())
            compared.append(name)
            return step(**options)

        return compare_and_step

    for name, player in players.items():
        player.step = comparing(name, player.step)
    rows = {
        name: case.inputs[key].mul(127.5).add(127.5).round().to(torch.uint8)
        for name, key in (("source", "A"), ("target", "B"))
    }
    metrics, finite = runner.step(iter([SimpleNamespace(fields=rows)]), images_seen=0)
    assert finite
    assert compared == ["discriminator", "generator"]

    found = {name: torch.tensor(value) for name, value in metrics.means(device=torch.device("cpu")).items()}
    case.agrees(0.5 * found["loss/D"], case.outputs["loss_D"].double(), tolerance=FP32)
    case.agrees(found["loss/G"], case.outputs["loss_G_GAN"].double(), tolerance=FP32)
    case.agrees(found["term/L1_weighted"], case.outputs["loss_G_L1"].double(), tolerance=FP32)
    kinds = ("weight", "bias", *RUNNING)
    compare_state(case, generator, of_generator(case.after, "G."), kinds)
    compare_state(case, discriminator, of_discriminator(case.after, "D."), kinds)


def test_parameter_counts_are_those_of_the_authors_networks() -> None:
    known = json.loads((FOLDER / "known_pix2pix.json").read_text())
    assert len(known) == 20
    for one in known:
        with torch.device("meta"):
            network = getattr(pix2pix, one["network"])(**one["options"])
        assert sum(parameter.numel() for parameter in network.parameters()) == one["parameters"], one
