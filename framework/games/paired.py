"""Translation of pictures learnt from pairs: pix2pix (Isola et al. 2017, arXiv:1611.07004).

The generator turns a source into a target, the discriminator judges targets beside their sources. Both turns play on
the same translations: the generator's draws (dropout is its only noise) bear one name, so its second pass repeats the
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from framework.data.fields import Image, fields_of
from framework.games.base import Game, Turn
from framework.games.checks import logits_fault, samples_fault
from framework.games.forward import Forward
from framework.games.showing import COLUMNS, Showing, shown_together
from framework.media import Media
from framework.networks.draw import Draw
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.adversarial_term import Adversarial
from framework.objectives.equilibrium import Equilibrium, equilibrium_of
from framework.objectives.outputs import logits_of
from framework.objectives.terms import Term, TermInputs
from framework.recipe.recipe import Recipe
from framework.sampling.drawn import Drawn
from framework.sampling.translation import translate
from framework.utils.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Paired(Game):
    """The rules: the discriminator's turn on a fresh batch of pairs, then the generator's on the same pairs.

    Raises:
        RecipeError: a field that cannot work; the message names it.
    """

    loss: AdversarialLoss
    source: str = "source"
    """The field that is translated."""
    target: str = "target"
    """The field that it is translated to."""
    discriminator_weight: float = 0.5
    """The weight of the discriminator's loss; the paper halves it (section 3.3), to slow the discriminator down."""
    discriminator_terms: tuple[Term, ...] = ()
    generator_terms: tuple[Term, ...] = ()
    """Terms beside the adversarial loss; pix2pix has `L1(weight=100)`."""

    def equilibrium(self) -> Equilibrium:
        """Return the equilibrium of the adversarial loss."""
        return equilibrium_of(self.loss)

    def turns(self) -> tuple[Turn, ...]:
        """Return the discriminator's turn and the generator's, of the same draws."""
        critic = Adversarial(loss=self.loss, weight=self.discriminator_weight)
        return (
            Turn(player="discriminator", terms=(critic, *self.discriminator_terms), draws="pairs", fresh=True),
            Turn(
                player="generator",
                terms=(Adversarial(loss=self.loss), *self.generator_terms),
                draws="pairs",
                through=("discriminator",),
            ),
        )

    def inputs(self, forward: Forward) -> TermInputs:
        """Return sources, targets, translations and logits of patches."""
        source, target = forward.field(self.source), forward.field(self.target)
        trains_generator = forward.turn.player == "generator"
        # The second pass repeats the first one's picture; running statistics follow it once.
        fake = forward.run("generator", source, graph=trains_generator, tracked=trains_generator)
        with forward.autocast("discriminator"):
            on_fake = forward.run("discriminator", fake, source)
            on_real = None if trains_generator else forward.run("discriminator", target, source)
        outputs = {"fake": forward.widened(on_fake)}
        if on_real is not None:
            outputs["real"] = forward.widened(on_real)
            for name, output in outputs.items():
                forward.score(f"logits/{name}", logits_of(output).mean())
        return forward.inputs(
            forward.discriminators()("penalty"),
            real=target,
            fake=fake,
            labels=source,
            fake_labels=source,
            real_logits=logits_of(outputs["real"]) if "real" in outputs else None,
            fake_logits=logits_of(outputs["fake"]),
            outputs=outputs,
            tensors=forward.fields,
            again=lambda number: forward.again(number).run("generator", source, graph=trains_generator, tracked=False),
        )

    def arguments(self, player: str) -> tuple[str, ...]:
        """Return what the players are called with, in words."""
        return (self.source,) if player == "generator" else (self.target, self.source)

    def example(
        self, player: str, network: nn.Module, fields: Mapping[str, Tensor], draw: Draw
    ) -> tuple[Tensor | None, ...]:
        """Return sources (n, C, H, W), or targets and sources."""
        source, target = fields[self.source], fields[self.target]
        return (source,) if player == "generator" else (target, source)

    def drawn(self, recipe: Recipe) -> Drawn:
        """Return that pictures are translated."""
        source, target = (self._image(recipe, name) for name in (self.source, self.target))
        return Drawn(kind="translations", name="generated", source=source, target=target)

    def real_picture(self, recipe: Recipe) -> str:
        """Return the field of the targets."""
        return self.target

    def show(self, network: nn.Module, showing: Showing) -> dict[str, Media]:
        """Return rows of sources, translations and targets, of held-out pairs."""
        source, target = (showing.held_out[name][:COLUMNS] for name in (self.source, self.target))
        made = translate(network, source, seed=showing.recipe.seed, numbers=range(len(source)))
        size = self._image(showing.recipe, self.target).height
        return {"samples/ema": shown_together({"input": source, "output": made, "target": target}, resolution=size)}

    def _image(self, recipe: Recipe, name: str) -> Image:
        """Return the field of a name.

        Raises:
            RecipeError: the data has no picture of that name.
        """
        for field in fields_of(recipe.data):
            if field.name == name and isinstance(field, Image):
                return field
        raise RecipeError(
            f"game: the data has no picture {name!r}: give data=Shards(fields=(Image({name!r}, ...), ...))"
        )

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe without the players or the pictures of the game, or with other pictures held out.

        Raises:
            RecipeError: names what is missing.
        """
        super().check(recipe)
        if recipe.held_out is None:
            raise RecipeError(
                "held_out: name pairs that are not trained on; translations are shown and measured on them"
            )
        for wanted in (self._image(recipe, name) for name in (self.source, self.target)):
            shape = (wanted.channels, wanted.height, wanted.width)
            if not any(
                isinstance(one, Image) and one.name == wanted.name and (one.channels, one.height, one.width) == shape
                for one in fields_of(recipe.held_out)
            ):
                raise RecipeError(
                    f"held_out: has no picture {wanted.name!r} of {wanted.height} x {wanted.width} pixels and "
                    f"{wanted.channels} channel(s), as data has"
                )

    def output_fault(self, player: str, output: object, fields: Mapping[str, Tensor]) -> str | None:
        """Say what is wrong with translations or logits of patches."""
        shape = tuple(fields[self.target].shape)
        if player == "generator":
            return samples_fault(output, shape)
        return logits_fault(output, shape[0], patches=True)
