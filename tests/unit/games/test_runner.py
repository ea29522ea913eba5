"""The runner of games: order of turns, shared draws, fresh batches and the clock, terms and when they are due."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from framework import (
    Adam,
    Adversarial,
    AdversarialLoss,
    FrameworkError,
    Hinge,
    LatentGame,
    Network,
    Player,
    RecipeError,
    RelativisticPairing,
    Term,
    Turn,
)
from framework.engines.choose import build_engine
from framework.games.alternating import Alternating
from framework.games.runner import GameRunner
from framework.objectives.terms import TermInputs
from tests.helpers.play import Played, smooth_recipe, start, steps, synthetic

SEEN: list[TermInputs] = []
"""What terms were shown since the test began."""


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


@dataclass(frozen=True, kw_only=True)
class Watching(Term):
    """Notes what it is shown; its value is a constant."""

    weight: float = 0.0
    constant: float = 2.0

    def value(self, inputs: TermInputs) -> Tensor:
        SEEN.append(inputs)
        return torch.tensor(self.constant)


@dataclass(frozen=True, kw_only=True)
class FourTurns(LatentGame):
    """The generator begins; its first turn and the discriminator's have the same draws; the last one is fresh."""

    loss: AdversarialLoss
    term: Term = Watching()

    def turns(self) -> tuple[Turn, ...]:
        terms, through = (Adversarial(loss=self.loss), self.term), ("discriminator",)
        return (
            Turn(player="generator", terms=terms, draws="same", through=through, fresh=True),
            Turn(player="discriminator", terms=terms, draws="same"),
            Turn(player="generator", terms=terms, draws="other", through=through),
            Turn(player="discriminator", terms=terms, draws="late", fresh=True),
        )


def played(game: LatentGame) -> Played:
    return start(smooth_recipe(game=game))


def seen(name: str) -> list[Tensor]:
    return [inputs.tensor(name) for inputs in SEEN]


def test_turns_are_taken_in_the_order_in_which_the_game_lists_them() -> None:
    game = played(FourTurns(loss=Hinge()))
    steps(game, count=2)
    assert [inputs.player for inputs in SEEN] == ["generator", "discriminator"] * 4
    assert game.game.players["generator"].steps_taken() == 4
    assert game.game.players["discriminator"].steps_taken() == 4


def test_turns_of_one_name_have_the_same_draws_and_others_have_others() -> None:
    steps(played(FourTurns(loss=Hinge())), count=1)
    first, second, third, fourth = seen("z")
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(third, fourth)
    assert SEEN[0].fake_labels is not None
    assert SEEN[1].fake_labels is not None
    assert torch.equal(SEEN[0].fake_labels, SEEN[1].fake_labels)


def test_a_fresh_turn_takes_the_next_batch_and_the_clock_moves_by_their_number() -> None:
    game = played(FourTurns(loss=Hinge()))
    assert game.game.images_of_step(0) == 2 * game.recipe.batch_size
    steps(game, count=1)
    real = seen("real")
    assert torch.equal(real[0], real[1])
    assert torch.equal(real[0], real[2])
    assert not torch.equal(real[0], real[3])
    assert [inputs.images_seen for inputs in SEEN] == [0, 0, 0, game.recipe.batch_size]


def test_a_term_is_logged_as_it_is_and_with_its_weight() -> None:
    metrics = steps(played(FourTurns(loss=Hinge(), term=Watching(weight=3.0, constant=2.0))), count=1)
    assert metrics["scores/term/Watching"].tolist() == [2.0]
    assert metrics["scores/term/Watching_weighted"].tolist() == [6.0]


def test_lazy_terms_are_due_by_the_turns_of_their_player() -> None:
    # Two turns of each player in a step: turns 0 1 | 2 3 | 4 5 | 6 7, of which 0, 3 and 6 are due.
    game = played(FourTurns(loss=Hinge(), term=Watching(weight=1.0, every=3)))
    due = []
    for begin in range(4):
        SEEN.clear()
        steps(game, begin=begin * game.game.images_of_step(0), count=1)
        due.append([inputs.player for inputs in SEEN])
    assert due == [["generator", "discriminator"], ["generator", "discriminator"], [], ["generator", "discriminator"]]


def test_a_step_ends_with_a_turn_that_is_not_finite_but_takes_all_its_batches() -> None:
    game = played(FourTurns(loss=Hinge(), term=Watching(weight=1.0, constant=math.nan)))
    taken = []

    def counted() -> Iterator[object]:
        for batch in synthetic(game.recipe, game.partition):
            taken.append(batch)
            yield batch

    before = [parameter.clone() for parameter in game.game.players["generator"].network.parameters()]
    _, finite = game.game.step(counted(), images_seen=0)  # type: ignore[arg-type]
    assert not finite
    assert [inputs.player for inputs in SEEN] == ["generator"]
    assert len(taken) == 2
    after = game.game.players["generator"].network.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_loss_that_compares_has_the_logits_of_real_samples_in_the_generators_turn() -> None:
    game = Alternating(loss=RelativisticPairing(), fake_labels="real", generator_terms=(Watching(),))
    steps(played(game), count=1)
    steps(played(replace(game, loss=Hinge())), count=1)
    compared, plain = SEEN
    assert compared.real_logits is not None
    assert "real" in compared.outputs
    assert plain.real_logits is None
    assert "real" not in plain.outputs


def test_the_equilibrium_of_a_game_is_that_of_the_discriminators_loss() -> None:
    assert FourTurns(loss=Hinge()).equilibrium() == Hinge().equilibrium


def test_a_name_that_a_turn_does_not_have_is_refused_with_those_it_has() -> None:
    steps(played(FourTurns(loss=Hinge())), count=1)
    with pytest.raises(
        FrameworkError, match=r"generator's turn has no tensor 'mask'; it has fake, image, label, real, z"
    ):
        SEEN[0].tensor("mask")


def test_fields_of_a_game_and_terms_of_the_wrong_player_are_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class OfTheGenerator(Watching):
        players: ClassVar[tuple[str, ...]] = ("generator",)

    with pytest.raises(RecipeError, match="fake_labels"):
        FourTurns(loss=Hinge(), fake_labels="none")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="OfTheGenerator is a term of the generator"):
        smooth_recipe(game=FourTurns(loss=Hinge(), term=OfTheGenerator()))


class Reader(nn.Module):
    """Numbers (N, 2) of pictures (N, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@dataclass(frozen=True, kw_only=True)
class Reading(Term):
    """Trains the reader towards 0, and notes what it was shown."""

    weight: float = 1.0
    players: ClassVar[tuple[str, ...]] = ("reader",)

    def value(self, inputs: TermInputs) -> Tensor:
        SEEN.append(inputs)
        return inputs.network(inputs.tensor("fake")).square().mean()


@dataclass(frozen=True, kw_only=True)
class WithReader(LatentGame):
    """A game whose only turn is that of a third player."""

    players: ClassVar[tuple[str, ...]] = ("generator", "discriminator", "reader")

    def turns(self) -> tuple[Turn, ...]:
        return (Turn(player="reader", terms=(Reading(),), draws="reader", fresh=True),)


def test_a_third_player_is_trained_on_generated_samples_without_a_graph() -> None:
    reader = Player(network=Network(Reader), optimizer=Adam(lr=1e-3))
    recipe = smooth_recipe(game=WithReader(), other_players={"reader": reader})
    two = start(smooth_recipe())
    engine = build_engine(recipe.build_network("reader"), reader, side="reader", engine="ddp", precision="fp32")
    players = {**two.game.players, "reader": engine}
    game = GameRunner(recipe.game, players=players, averages={}, recipe=recipe, partition=two.partition)
    before = engine.network.layers[1].weight.clone()
    metrics, finite = game.step(synthetic(recipe, two.partition), images_seen=0)
    assert finite
    assert not torch.equal(engine.network.layers[1].weight, before)
    assert not SEEN[0].tensor("fake").requires_grad
    assert all(parameter.grad is None for parameter in players["generator"].network.parameters())
    assert "grad_norm/reader" in metrics.sums()


def test_a_recipe_without_a_player_of_the_game_is_refused() -> None:
    with pytest.raises(RecipeError, match="WithReader is played by generator and discriminator and reader; the recipe"):
        smooth_recipe(game=WithReader())
