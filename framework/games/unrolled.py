"""Unrolled GAN: the generator plays against where the discriminator will be (Metz et al., arXiv:1611.02163).

Both players move at once, from the same samples and latents. Before the generator's gradient is taken, `unroll` steps
of the discriminator are followed on these samples; the gradient flows through them (eq. 6 to 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor

from framework.games.base import Turn
from framework.games.forward import Forward
from framework.games.latent_game import LatentGame
from framework.games.look_ahead import LookAhead
from framework.objectives.adversarial import AdversarialLoss, with_draws
from framework.objectives.adversarial_term import Adversarial
from framework.objectives.outputs import logits_of
from framework.objectives.terms import Term, TermInputs
from framework.recipe.checks import missing, require
from framework.recipe.optimizers import LookAheadOptimizer
from framework.recipe.recipe import Recipe
from framework.utils.ranges import Range


@dataclass(frozen=True, kw_only=True)
class SaddleValue(Adversarial):
    """The value of the game that the generator of an unrolled GAN raises: minus the discriminator's loss (eq. 9).

    Both parts of that loss count: the real samples' depends on the generator through the steps ahead.
    """

    players: ClassVar[tuple[str, ...]] = ("generator",)

    @property
    def needs_real_output(self) -> bool:
        """Whether real samples are judged in the generator's turn, too: yes."""
        return True

    def value(self, inputs: TermInputs) -> Tensor:
        """Return minus the discriminator's loss, a scalar.

        Raises:
            FrameworkError: the turn has no logits of real or of generated samples.
        """
        real = self._given(inputs.real_logits, "logits of real samples")
        fake = self._given(inputs.fake_logits, "logits of generated samples")
        return -with_draws(self.loss, inputs.draw).discriminator(real, fake)


@dataclass(frozen=True, kw_only=True)
class Unrolled(LatentGame):
    """The rules of an unrolled game. Engines that hold whole optimiser states play it, ddp, and fsdp2.

    Raises:
        RecipeError: a field that cannot work; the message names it.
    """

    loss: AdversarialLoss
    unroll: Annotated[int, Range(least=0)] = 5
    """The number of discriminator steps that are looked ahead; 0: simultaneous gradient descent."""
    generator_loss: Literal["saddle", "own"] = "saddle"
    """What the generator minimises at the discriminator ahead: minus the discriminator's loss, as in the paper's
    equations and in the authors' notebook, or the loss's own for generators."""
    discriminator_terms: tuple[Term, ...] = ()
    """Terms of the discriminator's own steps; the steps ahead go down its loss alone."""
    generator_terms: tuple[Term, ...] = ()

    def check(self, recipe: Recipe) -> None:
        """Refuse what games refuse, and a discriminator whose steps are not a function of loss and moments alone.

        Raises:
            RecipeError: names what does not fit.
        """
        super().check(recipe)
        player = recipe.discriminator
        lacking = missing(player.optimizer, LookAheadOptimizer)
        require(
            not lacking,
            f"discriminator.optimizer: {type(player.optimizer).__name__} lacks {', '.join(lacking)}, which a game that "
            "looks ahead needs; Adam, AdamW, RMSProp and SGD have it",
        )
        for name in ("clip_norm", "clip_weights"):
            require(getattr(player, name) is None, f"discriminator.{name}: steps that are looked ahead are not clipped")
        require(not player.frozen, "discriminator.frozen: steps that are looked ahead move all weights")
        require(recipe.growth is None, "growth: an unrolled game cannot grow")

    def turns(self) -> tuple[Turn, ...]:
        """Return both turns, which are played on the same samples and latents and step together."""
        loss = Adversarial(loss=self.loss)
        own: Term = loss if self.generator_loss == "own" else SaddleValue(loss=self.loss)
        generator = Turn(
            player="generator",
            terms=(own, *self.generator_terms),
            draws="step",
            fresh=True,
            through=("discriminator",),
            look_ahead=self.unroll,
            simultaneous=True,
        )
        return generator, Turn(player="discriminator", terms=(loss, *self.discriminator_terms), draws="step")

    def _generator_inputs(self, forward: Forward, given: dict[str, Any]) -> TermInputs:
        """Generate samples (N, ...), and let the discriminator that will be judge them."""
        require(
            forward.micro_batch.last and forward.first,
            "a game that looks ahead takes steps on whole global batches: use --micro-batches 1, or more processes",
        )
        fake = forward.run("generator", given["z"], given["fake_labels"])
        ahead, loss = LookAhead(forward, "discriminator"), with_draws(self.loss, forward.draw.under("penalty"))
        outputs = self._judged(ahead, fake, given)
        for _ in range(self.unroll):
            ahead.step(loss.discriminator(logits_of(outputs["real"]), logits_of(outputs["fake"])))
            outputs = self._judged(ahead, fake, given)
        return forward.inputs(
            forward.discriminators()("penalty"),
            fake=fake,
            real_logits=logits_of(outputs["real"]),
            fake_logits=logits_of(outputs["fake"]),
            outputs=outputs,
            **given,
        )

    def _judged(self, ahead: LookAhead, fake: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        """Return what the discriminator ahead returns for real and for generated samples."""
        return {
            "real": ahead.run(given["real"], given["labels"], draws="real"),
            "fake": ahead.run(fake, given["fake_labels"], draws="fake"),
        }
