"""What a game is: players, the turns they take, and the arithmetic of one turn.

A game is a frozen dataclass in the recipe. It names the players it needs, lists the turns of a step, and turns one
micro-batch of a turn into the inputs of the turn's terms (`Game.inputs`). Everything else is done once for all games by
`framework.games.runner`: micro-batches, the optimiser steps, finite votes and what they undo, lazy terms, averages,
metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from framework.games.augmentation import Augmenter
from framework.games.showing import Showing
from framework.media import Media
from framework.networks.draw import Draw
from framework.objectives.equilibrium import Equilibrium
from framework.objectives.terms import Memory, Term, TermInputs
from framework.recipe.checks import check_fields, require
from framework.recipe.recipe import Recipe
from framework.sampling.drawn import Drawn
from framework.sampling.sampler import Sampler
from framework.sampling.stored import StoredSamples
from framework.tracking.records import check_name
from framework.utils.errors import RecipeError

if TYPE_CHECKING:
    from framework.games.forward import Forward


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of one player: an optimiser step on the sum of the terms that are due."""

    player: str
    """The name of the player that is trained."""
    terms: tuple[Term, ...]
    """What it minimises; the first is always due and is the turn's loss in metrics and sentinels."""
    draws: str
    """The name under which the turn's random numbers are drawn; turns of the same name have the same numbers."""
    fresh: bool = False
    """Whether the turn takes the next global batch; otherwise it plays on the samples of the turn before."""
    through: tuple[str, ...] = ()
    """Other players through which the gradient flows; their parameters are frozen meanwhile."""
    lazy_steps: bool = False
    """Whether terms with `every` above 1 get an optimiser step of their own (arXiv:1912.04958, appendix B)."""
    look_ahead: int = 0
    """The number of steps of the players in `through` that the turn looks ahead; see `framework.games.look_ahead`."""
    repeats: int = 1
    """The number of times that each sample of the batch stands in the turn, with draws of its own each time."""
    simultaneous: bool = False
    """Whether the optimiser step waits until the next turn has its gradients, so that both are those of the players
    before either moves."""

    def __post_init__(self) -> None:
        require(self.repeats >= 1, f"a turn of the {self.player}: repeats={self.repeats} must be at least 1")
        require(
            not (self.simultaneous and self.lazy_steps),
            f"a turn of the {self.player} is simultaneous: its terms cannot have steps of their own (lazy_steps)",
        )


@dataclass(frozen=True, kw_only=True)
class Game(ABC):
    """The rules of a game; subclass it for a game of your own, or `LatentGame` if it generates from latents.

    A field `<player>_terms`, if there is one, holds terms of that player.

    Raises:
        RecipeError: a field of another type than it is declared with, or a term of another player.
    """

    players: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    """The players that a recipe must have for it."""
    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    """Those of whose weights a moving average is kept; the first is the one that samples are drawn from."""

    def __post_init__(self) -> None:
        check_fields(self)
        for player in self.players:
            check_terms(getattr(self, f"{player}_terms", ()), player=player, where=f"game.{player}_terms")

    @abstractmethod
    def turns(self) -> tuple[Turn, ...]:
        """Return the turns of a step, in order; the first is `fresh`."""

    @abstractmethod
    def inputs(self, forward: Forward) -> TermInputs:
        """Return what the terms of a turn look at, for one micro-batch.

        Args:
            forward: the turn, its samples and draws, and the networks; see `framework.games.forward`.
        """

    def turns_of(self, step: int) -> tuple[Turn, ...]:
        """Return the turns of a step, counted from 0; `turns` unless they change during a run.

        A game that overrides this overrides `turns_before` and `step_of` as well.
        """
        return self._usual_turns

    def turns_before(self, step: int, player: str) -> int:
        """Return the number of a player's turns in all steps before this one."""
        return step * sum(turn.player == player for turn in self._usual_turns)

    def step_of(self, batches: int) -> int:
        """Return the step that the next global batch belongs to, after so many batches."""
        return batches // sum(turn.fresh for turn in self._usual_turns)

    @cached_property
    def _usual_turns(self) -> tuple[Turn, ...]:
        """What `turns` returns, made once: a runner asks for it several times in every step."""
        return self.turns()

    def looked_ahead(self) -> frozenset[str]:
        """Return the players whose optimiser steps a turn of another player takes as functions."""
        return frozenset(player for turn in self.turns() if turn.look_ahead for player in turn.through)

    def images_per_step(self, batch_size: int) -> int:
        """Return the number of real samples that one step, or most of them, consumes: how far the clock advances.

        Args:
            batch_size: number of samples of a global batch.
        """
        return batch_size * sum(turn.fresh for turn in self.turns())

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe whose players or terms do not fit the game.

        Raises:
            RecipeError: names what is missing.
        """
        missing = [player for player in self.players if player not in recipe.players]
        unknown = [player for player in recipe.players if player not in self.players]
        if missing or unknown:
            name = type(self).__name__
            raise RecipeError(
                f"{name} is played by {' and '.join(self.players)}; the recipe has {' and '.join(recipe.players)}"
            )
        for turn in self.turns():
            check_terms(turn.terms, player=turn.player, where=f"game: the {turn.player}'s terms")

    def arguments(self, player: str) -> tuple[str, ...]:
        """Return what a player's forward is called with, in words for messages; the usual players' by default."""
        return ("latents", "labels") if player == "generator" else ("images", "labels")

    @abstractmethod
    def example(
        self, player: str, network: nn.Module, fields: Mapping[str, Tensor], draw: Draw
    ) -> tuple[Tensor | None, ...]:
        """Return what a player's forward is called with in training, as `arguments` names it.

        It serves the check of networks and estimates of memory, on any device.

        Args:
            network: the player's.
            fields: real samples by field, each (n, ...).
            draw: random numbers for n samples.

        Raises:
            FrameworkError: the network lacks what the game reads of it, such as a generator's `z_dim`.
        """

    @abstractmethod
    def output_fault(self, player: str, output: object, fields: Mapping[str, Tensor]) -> str | None:
        """Say what is wrong with what a player returned for `example`, in words that follow `returns`; None if nothing.

        `framework.games.checks` has the usual sentences.
        """

    @abstractmethod
    def drawn(self, recipe: Recipe) -> Drawn:
        """Return what the first of the averaged players draws, as checkpoints keep it."""

    def sampler(self, recipe: Recipe, *, seed: int, held_out: StoredSamples | None) -> Sampler:
        """Return what draws samples by position with the first of the averaged players, for metrics.

        Args:
            recipe: what is trained.
            seed: of everything random.
            held_out: samples that are not trained on; None where the recipe has none.
        """
        return self.drawn(recipe).sampler(classes=recipe.data.classes, seed=seed, held_out=held_out)

    def real_picture(self, recipe: Recipe) -> str | None:
        """Return the field of the real pictures that generated ones are compared with; None without pictures."""
        return self.diverse_field(recipe)

    @abstractmethod
    def show(self, network: nn.Module, showing: Showing) -> dict[str, Media]:
        """Return what is shown of the run, by key; the samples are `samples/ema`. All processes call it alike.

        Args:
            network: the first of the averaged players with its average, in eval mode.
            showing: the data's names, and samples that are at hand.
        """

    def show_reals(self, showing: Showing) -> dict[str, Media]:
        """Return real samples in the layout of what is shown, by key; nothing by default."""
        return {}

    def diverse_field(self, recipe: Recipe) -> str | None:
        """Return the field of pictures or vectors that are watched: whether they are diverse, where they are, how far
        they move; None where that makes no sense."""
        return None

    def pictures(self, network: nn.Module, recipe: Recipe, *, labels: Tensor | None, count: int) -> Tensor:
        """Return generated samples to be compared with those of `diverse_field`.

        Args:
            network: as in `show`.
            recipe: what is trained.
            labels: the wanted classes (count,); None without classes.
            count: the number of samples.

        Returns:
            Pictures, uint8 (count, C, H, W), or vectors, float32 (count, D), on the host; the same whenever they are
            asked for.

        Raises:
            RecipeError: the game names a `diverse_field`, and has no such method of its own.
        """
        raise RecipeError(f"{type(self).__name__} names a diverse_field: it also needs the method `pictures`")

    def equilibrium(self) -> Equilibrium | None:
        """Return the logit and the loss of an undecided discriminator, for sentinels and ADA; None where it has none.

        Some losses sum over processes to tell it (a collective): ask once.
        """
        return None

    def augmenter(self, memory: Mapping[str, Memory], *, equilibrium: Equilibrium | None) -> Augmenter:
        """Return the augmentation of what the discriminator sees; the default is none.

        Args:
            memory: what the players remember, by player.
            equilibrium: what `equilibrium` returned.
        """
        return Augmenter(None, {}, undecided_logit=None)


def check_terms(terms: Iterable[Term], *, player: str, where: str) -> None:
    """Refuse terms that another player has, or whose names MLflow cannot take.

    Args:
        where: the field of the recipe that holds them, for the message.

    Raises:
        RecipeError: names the term.
        FrameworkError: a name that MLflow cannot take.
    """
    for term in terms:
        nothing = torch.zeros(())
        for name in term.metrics(nothing, nothing, player=player):
            check_name(name)
        if player not in term.players:
            raise RecipeError(f"{where}: {type(term).__name__} is a term of the {' or '.join(term.players)}")
