"""The alternating game of Goodfellow et al. (2014, arXiv:1406.2661, algorithm 1).

In one step the discriminator takes `critic_steps` turns, each on fresh real samples, then the generator takes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from framework.augment import Augmentation
from framework.games.augmentation import Augmenter
from framework.games.base import Turn
from framework.games.critic_steps import CriticSteps
from framework.games.latent_game import LatentGame
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.adversarial_term import Adversarial
from framework.objectives.equilibrium import Equilibrium, equilibrium_of
from framework.objectives.terms import Memory, Term
from framework.recipe.checks import ADDED_LATER
from framework.recipe.recipe import Recipe
from framework.recipe.schedules import Ramp, Schedule, values_of
from framework.utils.errors import RecipeError
from framework.utils.ranges import Range


@dataclass(frozen=True, kw_only=True)
class Alternating(LatentGame):
    """The rules of an alternating game: how often each player takes a turn, and what is minimised in it.

    Raises:
        RecipeError: a field that cannot work; the message names it.
    """

    loss: AdversarialLoss
    critic_steps: int | CriticSteps = 1
    """The number of discriminator turns per generator turn (BigGAN: 2, WGAN: 5), or how it changes during a run."""
    discriminator_terms: tuple[Term, ...] = ()
    generator_terms: tuple[Term, ...] = ()
    lazy_steps: bool = False
    """Terms with `every` above 1 get an optimiser step of their own after the turn's, as StyleGAN2 does
    (arXiv:1912.04958, appendix B; see `Adam.lazy`). Otherwise they join the loss of the turns on which they are due."""
    generator_batches: Annotated[int, Range(least=1)] = field(default=1, metadata=ADDED_LATER)
    """The size of the generator's batch in batches of the discriminator's (WGAN-GP's program: 2)."""
    augment: Augmentation | None = None
    """The augmentation of all images that the discriminator sees, in both turns and in its penalties."""
    blur: Ramp | None = None
    """The standard deviation in pixels of a Gaussian blur before the augmentation, which keeps a discriminator from
    fine detail early on (StyleGAN3, arXiv:2106.12423, appendix F.2)."""
    input_noise: float | Ramp = field(default=0.0, metadata=ADDED_LATER)
    """The standard deviation of normal noise that is added to all samples that the discriminator sees, after blur and
    augmentation, in both turns and in its penalties (instance noise, arXiv:1610.04490, section 3; arXiv:1701.04862,
    section 3). Commonly it falls to 0: `Ramp(start=0.1, end=0.0, images=..., shape="linear")`."""
    top_k: Schedule | None = field(default=None, metadata=ADDED_LATER)
    """The share of generated samples that the generator's loss is a mean of; see `Adversarial.top_k`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.critic_steps, int) and self.critic_steps < 1:
            raise RecipeError(f"game.critic_steps={self.critic_steps} must be at least 1")
        if isinstance(self.critic_steps, CriticSteps) and self.augment is not None and self.augment.every is not None:
            raise RecipeError(
                "game.critic_steps changes during the run, and game.augment is adjusted every so many steps of one "
                "size: give a number of critic steps, or an augmentation of constant strength"
            )
        if self.blur is not None and min(values_of(self.blur)) < 0:
            raise RecipeError(f"game.blur={self.blur} must not be negative: it is a standard deviation in pixels")
        if min(values_of(self.input_noise)) < 0:
            raise RecipeError(f"game.input_noise={self.input_noise} must not be negative: it is a standard deviation")

    def equilibrium(self) -> Equilibrium:
        """Return the equilibrium of the adversarial loss."""
        return equilibrium_of(self.loss)

    def augmenter(self, memory: Mapping[str, Memory], *, equilibrium: Equilibrium | None) -> Augmenter:
        """Return the augmentation of all that the discriminator sees; its strength stands in its memory."""
        assert equilibrium is not None
        return Augmenter(
            self.augment,
            memory["discriminator"],
            undecided_logit=equilibrium.logit,
            blur=self.blur,
            input_noise=self.input_noise,
        )

    def check(self, recipe: Recipe) -> None:
        """Refuse what games refuse, and a recipe that grows while the number of critic steps changes.

        Raises:
            RecipeError: names what does not fit.
        """
        super().check(recipe)
        if isinstance(self.critic_steps, CriticSteps) and recipe.growth is not None:
            raise RecipeError("growth: the recipe grows in steps of one size; give a number of game.critic_steps")

    def turns(self) -> tuple[Turn, ...]:
        """Return the discriminator's turns, each on fresh samples, and the generator's, on those of the last one."""
        return self._turns(self.critic_steps if isinstance(self.critic_steps, int) else self.critic_steps.usual)

    def turns_of(self, step: int) -> tuple[Turn, ...]:
        """Return the turns of a step, counted from 0."""
        schedule = self.critic_steps
        if isinstance(schedule, int) or schedule.at(step) == schedule.usual:
            return self._usual_turns
        return self._many_turns

    def turns_before(self, step: int, player: str) -> int:
        """Return the number of a player's turns in all steps before this one."""
        if player == "discriminator" and isinstance(self.critic_steps, CriticSteps):
            return self.critic_steps.turns_before(step)
        return super().turns_before(step, player)

    def step_of(self, batches: int) -> int:
        """Return the step that the next global batch belongs to, after so many batches."""
        return super().step_of(batches) if isinstance(self.critic_steps, int) else self.critic_steps.step_of(batches)

    @cached_property
    def _many_turns(self) -> tuple[Turn, ...]:
        """The turns of the steps that have many of the critic's."""
        assert isinstance(self.critic_steps, CriticSteps)
        return self._turns(self.critic_steps.many)

    def _turns(self, critic_steps: int) -> tuple[Turn, ...]:
        loss = Adversarial(loss=self.loss, top_k=self.top_k)
        critic = (
            Turn(
                player="discriminator",
                terms=(loss, *self.discriminator_terms),
                draws=f"discriminator/{number}",
                fresh=True,
                lazy_steps=self.lazy_steps,
            )
            for number in range(critic_steps)
        )
        generator = Turn(
            player="generator",
            terms=(loss, *self.generator_terms),
            draws="generator",
            through=("discriminator",),
            lazy_steps=self.lazy_steps,
            repeats=self.generator_batches,
        )
        return (*critic, generator)
