"""What an unrolled game refuses, and what its terms say; its steps are in `tests/golden/test_golden_unrolled.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from framework import FrameworkError, Minimax, NonSaturating, Player, Recipe, RecipeError, Unrolled
from framework.engines.choose import EngineError, check
from framework.games.base import Turn
from framework.objectives.adversarial_term import Adversarial
from framework.train.config import RunConfig
from framework.train.dry_run import plan
from framework.train.launch import checked
from tests.helpers.launch import ROOT
from tests.helpers.play import smooth_recipe as smooth
from tests.helpers.play import start, steps, steps_on, synthetic

GAME = Unrolled(loss=NonSaturating(), unroll=2)


def with_discriminator(**changes: Any) -> Recipe:
    recipe = smooth(game=GAME)
    return replace(recipe, discriminator=replace(recipe.discriminator, **changes))


@dataclass(frozen=True, kw_only=True)
class Backwards:
    """An optimiser that only torch can step."""

    lr: float = 1e-3
    moments: ClassVar[tuple[str, ...]] = ()

    def hyperparameters_at(self, images_seen: int) -> dict[str, Any]:
        return {}

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.lr)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": Backwards()}, "discriminator.optimizer: Backwards lacks update, which a game that looks ahead"),
        ({"clip_norm": 1.0}, "discriminator.clip_norm: steps that are looked ahead are not clipped"),
        ({"clip_weights": 0.1}, "discriminator.clip_weights: steps that are looked ahead are not clipped"),
        ({"frozen": ("first",)}, "discriminator.frozen: steps that are looked ahead move all weights"),
    ],
)
def test_a_discriminator_whose_steps_would_be_others_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        with_discriminator(**changes)


@pytest.mark.parametrize("engine", ["zero1", "zero2", "zero3"])
def test_engines_it_has_not_been_shown_on_are_refused_for_the_discriminator_alone(engine: Any) -> None:
    recipe = smooth(game=GAME)
    assert recipe.game.looked_ahead() == {"discriminator"}  # type: ignore[attr-defined]
    options: dict[str, Any] = {"device": torch.device("cpu"), "precision": "fp32", "world": 2}
    with pytest.raises(EngineError, match=rf"discriminator: this game looks ahead .* on {engine}; use --engine ddp or"):
        check(engine, recipe.discriminator, side="discriminator", looked_ahead=True, **options)
    check(engine, recipe.generator, side="generator", **options)
    with pytest.raises(EngineError, match="discriminator: this game looks ahead"):  # as a launch asks
        plan(recipe, RunConfig(engine=engine), world=2, device=torch.device("cpu"))


def test_half_precision_that_needs_a_scale_is_refused_and_bf16_is_not() -> None:
    player: Player = smooth(game=GAME).discriminator
    options: dict[str, Any] = {"side": "discriminator", "device": torch.device("cpu"), "world": 2, "looked_ahead": True}
    with pytest.raises(EngineError, match="use --precision bf16 or fp32"):
        check("ddp", player, precision="fp16", **options)
    check("ddp", player, precision="bf16", **options)


def test_micro_batches_are_refused_before_and_in_a_step() -> None:
    recipe = smooth(game=GAME)
    for flags in ({"micro_batches": 2}, {"auto_micro_batch": True}):
        with pytest.raises(FrameworkError, match="looks ahead, in steps on whole global batches: leave out"):
            checked(recipe, RunConfig(out=ROOT / "nowhere", **flags))
    played = start(recipe, micro_batches=2)
    with pytest.raises(RecipeError, match="use --micro-batches 1"):
        steps(played, count=1)


def test_a_step_ahead_leaves_weights_moments_and_statistics_as_they_are() -> None:
    recipe = smooth(game=GAME)
    played, ahead = start(recipe), start(replace(recipe, game=replace(GAME, unroll=0)))
    # The discriminator's own step does not depend on how far the generator looks.
    for one in (played, ahead):
        steps_on(one, synthetic(recipe, one.partition), images=0, count=1)
    states = [one.game.players["discriminator"].network.state_dict() for one in (played, ahead)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    generators = [one.game.players["generator"].network.state_dict() for one in (played, ahead)]
    assert any(not torch.equal(generators[0][name], generators[1][name]) for name in generators[0])


def test_bf16_plays() -> None:
    played = start(smooth(game=GAME), precision="bf16")
    assert all(bool(values.isfinite().all()) for values in steps(played, count=2).values())


def test_the_generators_loss_is_the_saddle_value_or_its_own() -> None:
    def losses(game: Unrolled) -> dict[str, float]:
        found = steps(start(smooth(game=game)), count=1)
        return {name: float(found[f"scores/loss/{name}"]) for name in ("G", "D")}

    saddle = losses(replace(GAME, unroll=0))
    # Without a step ahead both players judge with the same discriminator, on the same samples, but that spectral norms
    # are iterated in the discriminator's own turn.
    assert saddle["G"] == pytest.approx(-saddle["D"], rel=1e-4)
    own = losses(replace(GAME, unroll=0, generator_loss="own"))
    assert own["D"] == saddle["D"]
    assert own["G"] > 0
    assert losses(replace(GAME, loss=Minimax(), unroll=0, generator_loss="own"))["G"] < 0


def test_turns_that_step_together_cannot_have_lazy_steps() -> None:
    with pytest.raises(RecipeError, match="simultaneous: its terms cannot have steps of their own"):
        Turn(player="generator", terms=(Adversarial(loss=Minimax()),), draws="x", simultaneous=True, lazy_steps=True)
    with pytest.raises(RecipeError, match="repeats=0 must be at least 1"):
        Turn(player="generator", terms=(Adversarial(loss=Minimax()),), draws="x", repeats=0)
