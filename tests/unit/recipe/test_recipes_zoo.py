"""The textbook's recipes: what their papers say, published parameter counts, and a step of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.recipes import load_recipe
from framework import (
    FGAN,
    SGD,
    Adam,
    Alternating,
    AuxiliaryClassifier,
    CriticSteps,
    GradientPenalty,
    LeastSquares,
    MutualInformation,
    RelativisticAverage,
    RMSProp,
    Uniform,
    Unrolled,
    Wasserstein,
)
from framework.games.example import example_rows
from framework.recipe import Recipe
from framework.recipe.override import apply
from tests.helpers.parameters import counts
from tests.helpers.play import Played, start

NAMES = (
    *("gan_mlp_fashion", "dcgan_fashion", "wgan_fashion", "wgangp_fashion", "lsgan_fashion", "rasgan_fashion"),
    *("fgan_fashion", "cgan_fashion", "acgan_fashion", "infogan_fashion", "unrolled_ring", "wgangp_cifar10"),
)


def game(name: str) -> Alternating:
    found = load_recipe(name).game
    assert isinstance(found, Alternating)
    return found


def rows(played: Played) -> Iterator[Any]:
    """Random real samples, for as many turns as asked for."""
    recipe, seed = played.recipe, 0
    while True:
        fields = example_rows(recipe, recipe.segments()[0], recipe.batch_size, seed=seed)
        yield SimpleNamespace(fields=fields)
        seed += 1


@pytest.mark.parametrize("name", NAMES)
def test_a_step_trains_both_players(name: str) -> None:
    recipe = replace(load_recipe(name), batch_size=4)
    played = start(recipe)
    before = {
        side: [p.detach().clone() for p in player.network.parameters()] for side, player in played.game.players.items()
    }
    metrics, finite = played.game.step(rows(played), images_seen=0)
    assert finite
    for side, player in played.game.players.items():
        moved = [not torch.equal(a, b) for a, b in zip(before[side], player.network.parameters(), strict=True)]
        assert any(moved), side
    assert {"loss/D", "loss/G"} <= metrics.means(device=torch.device("cpu")).keys()


def test_dcgan_at_64_pixels_has_the_published_parameters() -> None:
    recipe = apply(
        load_recipe("dcgan_fashion"),
        ["data.resolution=64", "data.channels=3", "generator.network.width=64", "discriminator.network.width=64"],
    )
    assert counts(recipe) == (3_576_704, 2_765_568)
    assert recipe.generator.optimizer == recipe.discriminator.optimizer == Adam(lr=2e-4, betas=(0.5, 0.999))
    assert game("dcgan_fashion").latents == (Uniform(100),)


def test_the_first_gan_is_trained_by_gradient_descent_with_momentum() -> None:
    recipe = load_recipe("gan_mlp_fashion")
    for player in (recipe.generator, recipe.discriminator):
        assert isinstance(player.optimizer, SGD)
        assert player.optimizer.momentum > 0
    assert recipe.discriminator.network.options["maxout_pieces"] == 5


def test_wgan_clips_after_every_step_and_begins_with_more_critic_steps() -> None:
    recipe = load_recipe("wgan_fashion")
    assert recipe.discriminator.clip_weights == 0.01
    assert recipe.discriminator.clip_weights_when == "after"
    assert isinstance(recipe.discriminator.optimizer, RMSProp)
    assert game("wgan_fashion").critic_steps == CriticSteps(usual=5, many=20, first=25, every=500)
    assert game("wgan_fashion").loss == Wasserstein()


@pytest.mark.parametrize("name", ["wgangp_fashion", "wgangp_cifar10"])
def test_wgan_gp_has_five_critic_steps_a_penalty_and_larger_generator_batches(name: str) -> None:
    found = game(name)
    assert (found.critic_steps, found.generator_batches) == (5, 2)
    assert found.discriminator_terms == (GradientPenalty(weight=10.0, target=1.0),)


def test_wgan_gps_residual_networks_and_their_falling_rate() -> None:
    recipe = load_recipe("wgangp_cifar10")
    assert recipe.images == 100_000 * 5 * 64
    for player in (recipe.generator, recipe.discriminator):
        assert player.optimizer == Adam(lr=2e-4, betas=(0.0, 0.9))
        assert [player.schedule.at(images) for images in (0, recipe.images // 2, recipe.images)] == [1.0, 0.5, 0.0]
    # 128 channels everywhere, by hand: 3x3 and 1x1 convolutions with biases, batch norms of two numbers a channel.
    convolution, shortcut, norm = 9 * 128 * 128 + 128, 128 * 128 + 128, 2 * 128
    first = 128 * 16 * 128 + 16 * 128
    generator = first + 3 * (2 * convolution + shortcut + 2 * norm) + norm + 9 * 128 * 3 + 3
    block = 2 * convolution
    from_image = 9 * 3 * 128 + 128 + convolution + 3 * 128 + 128
    discriminator = from_image + (block + shortcut) + 2 * block + 128 + 1
    assert counts(recipe) == (generator, discriminator)


def test_the_other_losses_are_those_of_their_papers() -> None:
    assert game("lsgan_fashion").loss == LeastSquares(real_target=1.0, fake_target=0.0, generator_target=1.0)
    assert game("rasgan_fashion").loss == RelativisticAverage(kind="logistic", convention="paper")
    recipe = apply(load_recipe("fgan_fashion"), ["game.loss.divergence=squared_hellinger"])
    assert isinstance(recipe.game, Alternating)
    assert recipe.game.loss == FGAN(divergence="squared_hellinger")


def test_classes_and_codes_reach_both_players() -> None:
    conditional: Recipe = load_recipe("cgan_fashion")
    assert conditional.data.classes == 10
    for player in (conditional.generator, conditional.discriminator):
        assert player.network.options["condition"] == "concatenation"
    auxiliary = game("acgan_fashion")
    assert auxiliary.discriminator_terms == auxiliary.generator_terms == (AuxiliaryClassifier(reading="paper"),)
    information = game("infogan_fashion")
    (term,) = information.generator_terms
    assert isinstance(term, MutualInformation)
    assert (term.weight, term.variance) == (1.0, "one")
    assert information.discriminator_terms == (term,)
    assert sum(latent.width for latent in information.latents) == 62 + 10 + 2
    assert load_recipe("infogan_fashion").data.classes == 0, "nobody tells it the classes"


def test_the_unrolled_ring_looks_five_steps_ahead_and_its_rates_fall_to_zero() -> None:
    recipe = load_recipe("unrolled_ring")
    assert isinstance(recipe.game, Unrolled)
    assert (recipe.game.unroll, recipe.game.generator_loss, recipe.batch_size) == (5, "saddle", 256)
    for player in (recipe.generator, recipe.discriminator):
        assert player.optimizer == Adam(lr=4e-3, betas=(0.5, 0.999))
        assert player.schedule.at(recipe.images) == 0.0
