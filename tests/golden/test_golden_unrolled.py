"""Recorded steps of an unrolled GAN, played by the game itself, on 1, 2 and 4 processes, with ddp and fsdp2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import SGD, Adam, Network, NonSaturating, Player, Recipe, RingOfGaussians, Unrolled
from framework.engines.base import Engine
from framework.engines.whole import whole_tensors
from framework.networks.draw import Draw
from tests.helpers.play import Played, start
from tests.helpers.spawn import run_ranks

from . import Case, load

FP64 = 1e-12
BATCH, LR_GENERATOR = 8, 0.5
CASES: dict[str, tuple[Any, int]] = {
    "k0": (SGD(lr=0.1), 0),
    "k1_sgd": (SGD(lr=0.1), 1),
    "k5_sgd": (SGD(lr=0.1), 5),
    "k1_torch_adam": (Adam(lr=0.01, betas=(0.5, 0.999)), 1),
    "k5_torch_adam": (Adam(lr=0.01, betas=(0.5, 0.999)), 5),
}


class Perceptron(nn.Module):
    """Two hidden layers with tanh, as in the demo notebook; logits (N,) where there is one number."""

    def __init__(self, *, sizes: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        self.layers = nn.Sequential(*layers[:-1])
        self.z_dim = sizes[0]

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(x).squeeze(1)


@dataclass(frozen=True, eq=False)
class Recorded:
    """The recorded latents."""

    values: Tensor
    name: str = "z"
    width: int = 3

    def draw(self, draw: Draw) -> Tensor:
        return self.values[draw.rows]  # type: ignore[attr-defined]  # the rows of this process's micro-batch

    def code(self, drawn: Tensor) -> Tensor:
        return drawn


def recipe_of(case: Case, name: str) -> Recipe:
    optimizer, unroll = CASES[name]
    return Recipe(
        name="unrolled",
        paper="Unrolled GAN, arXiv:1611.02163",
        data=RingOfGaussians(),
        generator=Player(network=Network(Perceptron, sizes=(3, 6, 6, 2)), optimizer=SGD(lr=LR_GENERATOR)),
        discriminator=Player(network=Network(Perceptron, sizes=(2, 6, 6, 1)), optimizer=optimizer),
        game=Unrolled(loss=NonSaturating(), unroll=unroll, latents=(Recorded(case.inputs["z"]),)),
        batch_size=BATCH,
        images=BATCH,
    )


def begun(case: Case, name: str, engine: str) -> Played:
    """The game with the recorded weights, and the recorded moments after 4 steps."""
    played = start(recipe_of(case, name), dtype=torch.float64, engine=engine)
    for side, letter in (("generator", "G."), ("discriminator", "D.")):
        player = played.game.players[side]
        for part in player.slices(own=False):
            number = part.name.removeprefix("layers.")
            source = {
                "weight": case.params.get(f"{letter}{number}"),
                "exp_avg": case.inputs.get(f"m/{number}"),
                "exp_avg_sq": case.inputs.get(f"v/{number}"),
            }[part.kind]
            assert source is not None
            part.values.copy_(source.flatten()[part.start : part.start + part.values.numel()])
        player.commit(steps_taken=4)
    return played


def weights(engine: Engine) -> dict[str, Tensor]:
    return {n.removeprefix("layers."): w for n, w in whole_tensors(engine, ("weight",))["weight"].items()}


def play(engine: str) -> dict[str, Tensor]:
    """One step of every case: the generator's gradient, the discriminator after its own step, and the loss."""
    found = {}
    for name in CASES:
        case = load("unrolled_gan", name)
        played = begun(case, name, engine)
        before = weights(played.game.players["generator"])

        def batches(case: Case = case, played: Played = played) -> Iterator[Any]:
            parts = [case.inputs["x"][part.rows] for part in played.partition.slices()]
            yield SimpleNamespace(fields={"point": torch.cat(parts)})

        metrics, finite = played.game.step(batches(), images_seen=0)
        assert finite
        after, moved = weights(played.game.players["generator"]), weights(played.game.players["discriminator"])
        found |= {f"{name}/G/{key}": (before[key] - value) / LR_GENERATOR for key, value in after.items()}
        found |= {f"{name}/D/{key}": value for key, value in moved.items()}
        means = metrics.means(device=torch.device("cpu"))
        found[f"{name}/loss"] = -torch.tensor(means["loss/G"], dtype=torch.float64)
    return found


def compare(found: dict[str, Tensor]) -> float:
    """Assert that all cases are as recorded; the largest relative difference of a generator's gradient."""
    largest = 0.0
    for name, (_, unroll) in CASES.items():
        case = load("unrolled_gan", name)
        case.agrees(found[f"{name}/loss"], case.outputs["unrolled_loss"], tolerance=FP64)
        for key, value in case.gradients.items():
            ours = found[f"{name}/G/{key.removeprefix('G.')}"]
            # The gradient is read off a step of weights below 1, so that it is rounded to 1e-16 / LR_GENERATOR.
            case.agrees(ours, value, tolerance=FP64, scale=1.0)
            largest = max(largest, float((ours - value).abs().max()))
        if unroll == 1:  # the discriminator's own step, from the same samples and the generator before its step
            for key in (key for key in case.outputs if key.startswith("D_1/")):
                case.agrees(found[f"{name}/D/{key.removeprefix('D_1/')}"], case.outputs[key], tolerance=FP64)
    return largest


def test_one_process_takes_the_recorded_steps() -> None:
    print(f"unrolled, one process: largest difference of a gradient {compare(play('ddp')):.1e}")


@pytest.mark.distributed
@pytest.mark.parametrize(("engine", "world"), [("ddp", 2), ("ddp", 4), ("fsdp2", 2), ("fsdp2", 4)])
def test_processes_take_the_recorded_steps_together(engine: str, world: int) -> None:
    for found in run_ranks(play, world, engine):
        print(f"unrolled, {engine} on {world}: largest difference of a gradient {compare(found):.1e}")
