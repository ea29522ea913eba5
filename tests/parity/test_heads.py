"""Heads, their terms and remedies: one game on one process, on two with uneven shares, and in micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from framework import (
    R1,
    Adam,
    Alternating,
    AuxiliaryClassifier,
    Categorical,
    Consistency,
    Gaussian,
    GeneratorMutualInformation,
    Hinge,
    MutualInformation,
    Network,
    NonSaturating,
    Player,
    Ramp,
    Recipe,
    Shards,
    Stepwise,
    Uniform,
    WeightDecay,
)
from framework.networks import dcgan, infogan, mlp
from tests.helpers.play import largest_difference, start, steps
from tests.helpers.spawn import run_ranks

COUNT = 3
TOLERANCE = 1e-9
"""Of float64 arithmetic in another order of summation, over a few steps of Adam, which divides small gradients by their
size."""
ZERO_TOLERANCE = 2e-4
"""ZeRO computes in fp32: losses of order 1, with relative errors of 1e-6 in gradients, which Adam's division by their
size turns into changes of up to lr = 1e-3 in weights of gradients near 0; a wrong term is off by more than 1e-2."""

CODES = (Categorical(5, name="kind"), Uniform(2, name="style"), Gaussian(1, name="size"))
INFORMATION = MutualInformation(codes=CODES, variance="predicted")
OWN = GeneratorMutualInformation(codes=CODES, weight=0.1, variance="predicted")
WIDTH = sum(code.width for code in CODES)


def recipe(generator: Network, discriminator: Network, game: Alternating, *, batch_size: int = 13) -> Recipe:
    """Thirteen images a batch, of which two processes have seven and six."""
    optimizer = Adam(lr=1e-3, betas=(0.5, 0.9))
    return Recipe(
        name="heads",
        paper="none",
        data=Shards(location="synthetic", resolution=8, channels=1, classes=5),
        generator=Player(network=generator, optimizer=optimizer),
        discriminator=Player(network=discriminator, optimizer=optimizer),
        game=game,
        batch_size=batch_size,
        images=10_000,
    )


def of_one_sample() -> Recipe:
    """All that does not depend on which samples meet in a micro-batch."""
    latents = (Gaussian(4), *CODES)
    classifier = AuxiliaryClassifier()
    return recipe(
        Network(
            mlp.Generator,
            z_dim=4 + WIDTH,
            width=16,
            activation="tanh",
            condition="concatenation",
            dropout=0.2,
        ),
        Network(
            mlp.Discriminator,
            width=16,
            depth=2,
            activation="softplus",
            condition="concatenation",
            dropout=0.3,
            input_dropout=0.1,
            class_head=True,
            codes=INFORMATION.width,
        ),
        Alternating(
            loss=NonSaturating(),
            latents=latents,
            discriminator_terms=(
                classifier,
                INFORMATION,
                R1(weight=0.1),
                WeightDecay(weight=1e-2),
                Consistency(weight=0.5),
            ),
            generator_terms=(AuxiliaryClassifier(weight=0.1), INFORMATION),
            input_noise=Ramp(start=0.2, end=0.0, images=1_000, shape="linear"),
        ),
    )


def of_micro_batches() -> Recipe:
    """Minibatch discrimination, batch norm and top-k training, which see a whole micro-batch of all processes."""
    return recipe(
        Network(dcgan.Generator, z_dim=4 + WIDTH, width=4, condition="concatenation", dropout=0.2),
        Network(
            dcgan.Discriminator,
            width=4,
            condition="concatenation",
            kernels=6,
            kernel_dim=3,
            kernel_form="program",
            class_head=True,
            codes=INFORMATION.width,
        ),
        Alternating(
            loss=Hinge(),
            latents=(Gaussian(4), *CODES),
            discriminator_terms=(AuxiliaryClassifier(reading="real_only"), INFORMATION, R1(weight=0.1)),
            generator_terms=(AuxiliaryClassifier(weight=0.1), INFORMATION),
            top_k=Stepwise(factor=0.75, every_images=13, least=0.5),
        ),
    )


def of_generators_head() -> Recipe:
    """Q is trained with the generator, and reads features."""
    return recipe(
        Network(infogan.Generator, z_dim=4 + WIDTH, width=4, hidden=16, codes=OWN.width, code_features=12),
        Network(infogan.Discriminator, width=4, hidden=12),
        Alternating(loss=NonSaturating(), latents=(Gaussian(4), *CODES), generator_terms=(OWN,)),
    )


RECIPES = {"sample": of_one_sample, "micro-batch": of_micro_batches, "generator": of_generators_head}


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone().double() for name, p in network.named_parameters()}


def played(
    name: str, *, micro_batches: int = 1, engine: str = "ddp", dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Scores, and the weights of both players after a few steps."""
    game = start(RECIPES[name](), micro_batches=micro_batches, engine=engine, dtype=dtype)
    found = steps(game, count=COUNT)
    for side, player in game.game.players.items():
        with player.resident():
            found |= {f"weights/{side}/{key}": value for key, value in weights(player.network).items()}
    for player in game.game.players.values():
        player.close()
    return found


def play() -> dict[str, Tensor]:
    return {
        f"{name} {micro_batches}/{key}": value
        for name in RECIPES
        for micro_batches in (1, 3)
        for key, value in played(name, micro_batches=micro_batches).items()
    }


@pytest.fixture(scope="module")
def results() -> dict[int, dict[str, Tensor]]:
    return {1: run_ranks(play, 1)[0], 2: run_ranks(play, 2)[0]}


def of(results: dict[str, Tensor], name: str, micro_batches: int) -> dict[str, Tensor]:
    prefix = f"{name} {micro_batches}/"
    return {key.removeprefix(prefix): value for key, value in results.items() if key.startswith(prefix)}


@pytest.mark.distributed
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_play_as_one_does(results: dict[int, dict[str, Tensor]], name: str, micro_batches: int) -> None:
    for part in ("scores/", "weights/"):
        difference = largest_difference(of(results[1], name, micro_batches), of(results[2], name, micro_batches), part)
        print(f"{name}, {micro_batches} micro-batch(es), 2 processes, {part}: {difference:.1e}")
        assert difference < TOLERANCE


@pytest.mark.distributed
def test_micro_batches_play_as_one_batch_does(results: dict[int, dict[str, Tensor]]) -> None:
    for part in ("scores/", "weights/"):
        difference = largest_difference(of(results[1], "sample", 1), of(results[1], "sample", 3), part)
        print(f"3 micro-batches, {part}: {difference:.1e}")
        assert difference < TOLERANCE
    cut = largest_difference(of(results[1], "micro-batch", 1), of(results[1], "micro-batch", 3), "scores/loss/G")
    assert cut > 1e-3, "what sees a micro-batch is another game in smaller ones"


@pytest.mark.distributed
def test_what_is_logged(results: dict[int, dict[str, Tensor]]) -> None:
    found = {key.removeprefix("scores/") for key in of(results[1], "sample", 1) if key.startswith("scores/")}
    heads = {f"information/{code.name}/{letter}" for code in CODES for letter in "DG"}
    for term in ("AuxiliaryClassifier", "MutualInformation"):
        heads |= {f"term/{term}/{letter}{end}" for letter in "DG" for end in ("", "_weighted")}
    heads |= {"accuracy/real", "accuracy/fake", "penalty/WeightDecay", "penalty/Consistency", "penalty/R1"}
    assert heads <= found
    own = of(results[1], "generator", 1)
    assert {f"scores/information/{code.name}/G" for code in CODES} <= set(own)
    assert not [key for key in own if key.startswith("scores/information") and key.endswith("/D")]


ON_ENGINES = ("sample", "generator")
ENGINES = {"fsdp2": torch.float64, "zero1": torch.float32, "zero3": torch.float32}


def on_engines() -> dict[str, Tensor]:
    return {
        f"{engine} {name}/{key}": value
        for engine, dtype in ENGINES.items()
        for name in ON_ENGINES
        for key, value in played(name, engine=engine, dtype=dtype).items()
    }


@pytest.mark.distributed
@pytest.mark.timeout(300)
def test_heads_are_trained_on_every_engine(results: dict[int, dict[str, Tensor]]) -> None:
    """Engines that shard parameters look for tensors in what a network returns; Q of the generator is run apart."""
    (first, _) = run_ranks(on_engines, 2)
    for name in ON_ENGINES:
        whole = of(results[1], name, 1)
        for engine, dtype in ENGINES.items():
            prefix = f"{engine} {name}/"
            ours = {key.removeprefix(prefix): v for key, v in first.items() if key.startswith(prefix)}
            for part in ("scores/term", "scores/loss", "scores/grad_norm"):
                difference = largest_difference(whole, ours, part)
                print(f"{name} on {engine}, {part}: {difference:.1e}")
                assert difference < (TOLERANCE if dtype == torch.float64 else ZERO_TOLERANCE)
