"""A generator's batch that is larger than the critic's, as WGAN-GP's program has it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from framework import SGD, Alternating, Wasserstein
from framework.objectives.terms import TermInputs
from tests.helpers.play import Played, small_recipe, smooth_recipe, start, steps
from tests.helpers.spawn import run_ranks


class Seen(Alternating):
    """The usual game, which keeps what the generator's turn looked at."""

    inputs_seen: list[TermInputs] = []  # noqa: RUF012

    def inputs(self, forward: object) -> TermInputs:
        found = super().inputs(forward)  # type: ignore[arg-type]
        if found.player == "generator":
            self.inputs_seen.append(found)
        return found


def test_the_generator_makes_so_many_batches_and_the_critic_one() -> None:
    Seen.inputs_seen.clear()
    game = Seen(loss=Wasserstein(), critic_steps=2, generator_batches=2, fake_labels="real")
    played = start(smooth_recipe(game=game))
    steps(played, count=1)
    (found,) = Seen.inputs_seen
    assert found.fake is not None
    assert found.z is not None
    assert found.labels is not None
    assert len(found.fake) == 24
    assert len({tuple(row) for row in found.z.tolist()}) == 24, "each has a latent of its own"
    assert torch.equal(found.labels[::2], found.labels[1::2]), "each label of the batch stands there twice"
    assert played.game.images_of_step(0) == 24, "the clock counts real samples alone"


def results(micro_batches: int) -> dict[str, Tensor]:
    recipe = small_recipe(game=Alternating(loss=Wasserstein(), generator_batches=3))
    # A step along the gradient itself, where Adam's first would make rounding as large as everything else.
    played: Played = start(
        replace(recipe, generator=replace(recipe.generator, optimizer=SGD(lr=0.1))),
        micro_batches=micro_batches,
        dtype=torch.float64,
    )
    steps(played, count=1)
    weights = played.game.players["generator"].network.named_parameters()
    return {name: weight.detach().clone() for name, weight in weights}


def test_the_larger_batch_is_the_same_on_two_processes() -> None:
    one = results(1)
    for found in run_ranks(results, 2, 1):
        for name, value in one.items():
            # Sums in float64 over a batch of 36 in another order; the critic's step before it was one of Adam's, whose
            # learning rate of 2e-3 times a relative error of 1e-13 is what it can add.
            torch.testing.assert_close(found[name], value, atol=1e-10, rtol=0)
