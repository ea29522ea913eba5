"""Critic turns that change during a run: the authors' program written out, the clock's inverse, and a resumed game."""

import json
from dataclasses import replace
from itertools import accumulate, count

import pytest
import torch

from framework import Ada, Alternating, CriticSteps, FrameworkError, RecipeError, Wasserstein
from framework.recipe.description import describe
from framework.recipe.override import apply
from tests.helpers.play import smooth_recipe, start, steps, synthetic
from tests.recipes import tiny_progan

FEW = CriticSteps(usual=2, many=5, first=2, every=4)


def test_the_numbers_are_those_of_the_authors_program() -> None:
    schedule = CriticSteps()
    program = [100 if turn < 25 or turn % 500 == 0 else 5 for turn in range(2_000)]
    assert [schedule.at(step) for step in range(2_000)] == program
    assert [schedule.turns_before(step) for step in range(2_000)] == [0, *accumulate(program)][:2_000]


@pytest.mark.parametrize("schedule", [CriticSteps(), FEW, CriticSteps(every=0), CriticSteps(usual=7, many=1, first=3)])
def test_every_critic_turn_belongs_to_one_step(schedule: CriticSteps) -> None:
    owners = [step for step in range(600) for _ in range(schedule.at(step))]
    assert [schedule.step_of(turns) for turns in range(len(owners))] == owners


def test_far_ahead_the_clock_is_inverted_as_well() -> None:
    schedule, step = CriticSteps(), 123_456_789
    assert schedule.step_of(schedule.turns_before(step)) == step
    assert schedule.step_of(schedule.turns_before(step) - 1) == step - 1


def test_a_game_takes_these_turns_each_on_a_batch_of_its_own() -> None:
    played = start(smooth_recipe(game=Alternating(loss=Wasserstein(), critic_steps=FEW)))
    game, images, expected = played.game, 0, [5, 5, 2, 2, 5, 2, 2, 2, 5]
    for step, turns in enumerate(expected):
        taken = count()
        batches = (next(synthetic(played.recipe, played.partition, images + 12 * next(taken))) for _ in iter(int, 1))
        assert game.images_of_step(images) == 12 * turns
        game.step(batches, images_seen=images)
        assert next(taken) == turns
        images += 12 * turns
        assert game.players["generator"].steps_taken() == step + 1
    assert game.players["discriminator"].steps_taken() == sum(expected)


def test_a_game_that_is_resumed_between_steps_goes_on_as_before() -> None:
    recipe = smooth_recipe(game=Alternating(loss=Wasserstein(), critic_steps=FEW))
    straight, stopped = start(recipe), start(recipe)
    steps(straight, count=7)
    steps(stopped, count=3)
    resumed = start(recipe)
    for side, player in resumed.game.players.items():
        source = stopped.game.players[side]
        kept = {(part.kind, part.name): part.values for part in source.slices(own=False)}
        for part in player.slices(own=False):
            part.values.copy_(kept[part.kind, part.name])
        player.commit(steps_taken=source.steps_taken())
        player.network.load_state_dict(source.network.state_dict())
    steps(resumed, begin=12 * FEW.turns_before(3), count=4)
    for side, player in straight.game.players.items():
        for name, value in player.network.state_dict().items():
            assert torch.equal(value, resumed.game.players[side].network.state_dict()[name]), f"{side}: {name}"


def test_it_is_part_of_the_recipe() -> None:
    recipe = smooth_recipe(game=Alternating(loss=Wasserstein(), critic_steps=CriticSteps()))
    told = json.loads(json.dumps(describe(recipe)))["game"]["critic_steps"]
    assert (told["usual"], told["many"], told["first"], told["every"]) == (5, 100, 25, 500)
    changed = apply(recipe, ["game.critic_steps.first=3"])
    assert isinstance(changed.game, Alternating)
    assert changed.game.critic_steps == CriticSteps(first=3)


def test_what_needs_steps_of_one_size_is_refused() -> None:
    with pytest.raises(RecipeError, match="augment is adjusted every so many steps"):
        Alternating(loss=Wasserstein(), critic_steps=FEW, augment=Ada(target=0.6))
    with pytest.raises(RecipeError, match="steps of one size"):
        replace(tiny_progan.RECIPE, game=Alternating(loss=Wasserstein(), critic_steps=FEW))
    with pytest.raises(FrameworkError, match="many"):
        CriticSteps(many=0)
