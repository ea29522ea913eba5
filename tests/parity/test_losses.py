"""Losses that draw targets or compare with means of the batch: the same on one process and on two."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from framework import FGAN, SGD, Alternating, RelativisticAverage, RelativisticCentered, SoftLabels
from framework.objectives.adversarial import AdversarialLoss
from tests.helpers.play import largest_difference, outputs, plain_recipe, start, steps
from tests.helpers.spawn import run_ranks

TOLERANCE = 1e-10
"""Of float64 arithmetic in another order of summation, over three steps of gradient descent without kinks."""

LOSSES: dict[str, AdversarialLoss] = {
    "soft": SoftLabels(real=(0.7, 1.2), fake=(0.0, 0.3), flipped=0.2, generated=(0.7, 1.2)),
    "fgan": FGAN(divergence="squared_hellinger"),
    "average": RelativisticAverage(kind="least_squares", convention="relativistic_gan"),
    "centered": RelativisticCentered(),
}


def play() -> dict[str, Tensor]:
    results = {}
    for name, loss in LOSSES.items():
        recipe = plain_recipe(game=Alternating(loss=loss))
        for side in ("generator", "discriminator"):  # Adam would hide a factor
            player = replace(getattr(recipe, side), optimizer=SGD(lr=0.1), clip_norm=None)
            recipe = replace(recipe, **{side: player})
        for micro_batches in (1, 3):
            played = start(recipe, dtype=torch.float64, micro_batches=micro_batches)
            found = steps(played, count=3) | outputs(played)
            results |= {f"{name} {micro_batches}/{key}": value for key, value in found.items()}
    return results


@pytest.fixture(scope="module")
def results() -> dict[int, dict[str, Tensor]]:
    return {1: run_ranks(play, 1)[0], 2: run_ranks(play, 2)[0]}


def part(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.partition("/")[2]: value for name, value in found.items() if name.startswith(f"{prefix}/")}


@pytest.mark.distributed
@pytest.mark.parametrize("name", LOSSES)
def test_losses_do_not_depend_on_the_number_of_processes(results: dict[int, dict[str, Tensor]], name: str) -> None:
    compared = [(1, 1), (3, 3)] if name in ("average", "centered") else [(1, 1), (1, 3)]  # means are of a micro-batch
    for one, two in compared:
        whole, cut = part(results[1], f"{name} {one}"), part(results[2], f"{name} {two}")
        for kind in ("scores/", "outputs/"):
            difference = largest_difference(whole, cut, kind)
            print(f"{name}, 2 processes, {two} micro-batch(es), {kind}: {difference:.1e}")
            assert difference < TOLERANCE
