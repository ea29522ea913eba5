"""Stacked GAN (Huang et al. 2016, arXiv:1612.04357): a stack of generators inverts a trained encoder level by level.

There are two levels, as in the authors' program: the upper generator makes the encoder's features of a class, the lower
one a picture of features. First each level is trained by itself, the lower one on the encoder's features of real
pictures; from a point of the clock on, the lower one is given what the upper one makes. Both generators are one player,
and so are both discriminators: their losses share no parameters, so Adam treats them as it would treat players apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from framework.augment import Augmentation
from framework.games.augmentation import Augmenter
from framework.games.base import Turn
from framework.games.checks import logits_fault, samples_fault
from framework.games.forward import Forward, main_sample
from framework.games.latent_game import LatentGame
from framework.games.showing import shows_pictures
from framework.networks.draw import Draw
from framework.networks.latents import Latent, Uniform, code_of, drawn
from framework.networks.stacked import Generated
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.adversarial_term import Adversarial
from framework.objectives.equilibrium import Equilibrium, equilibrium_of
from framework.objectives.outputs import logits_of, scales_of
from framework.objectives.terms import Memory, Term, TermInputs
from framework.recipe.recipe import Recipe
from framework.utils.errors import FrameworkError, RecipeError
from framework.utils.ranges import Range

ENCODER = "encoder"
"""The name of the helper that the stack inverts."""
LEVELS = ("features", "images")
"""The levels from the top of the stack down, as metrics name them."""


@dataclass(frozen=True, kw_only=True)
class StackedGAN(LatentGame):
    """The rules: a turn of both discriminators on a fresh batch, then one of both generators on the same samples.

    The recipe has `helpers={"encoder": Helper(...)}`, a trained network with the methods `encode` and `classify` of
    `framework.networks.stacked.Encoder`, and data with classes.

    Raises:
        RecipeError: a field that cannot work; the message names it.
    """

    loss: AdversarialLoss
    joint_after_images: Annotated[int, Range(least=0)]
    """The clock, in images, from which on the lower generator is given features that the upper one made; 0: always.
    Before that it is given the encoder's features of real pictures."""
    adversarial_weight: Annotated[float, Range(least=0)] = 1.0
    """The weight of the adversarial losses of both players."""
    discriminator_weight: Annotated[float, Range(least=0)] = 0.5
    """A further factor on the discriminators' adversarial loss; the authors' program halves it."""
    discriminator_terms: tuple[Term, ...] = ()
    """Terms beside the adversarial loss; the paper has `NoiseEntropy(weight=10)`."""
    generator_terms: tuple[Term, ...] = ()
    """Terms beside the adversarial loss; the paper has `LabelCondition()`, `FeatureCondition()`, `NoiseEntropy()`."""
    latents: tuple[Latent, ...] = field(default=(Uniform(50, "z1", low=0.0), Uniform(50, "z0", low=0.0)))
    """The noise of the upper level and of the lower one, uniform in [0, 1) in the authors' program."""
    augment: Augmentation | None = None
    """The augmentation of all pictures that the lower discriminator sees; the paper has none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.latents) != len(LEVELS):
            raise RecipeError(
                f"game.latents: a stack of two levels needs the noise of both, the upper one's first, not "
                f"{len(self.latents)} latent(s)"
            )

    def equilibrium(self) -> Equilibrium:
        """Return the equilibrium of the adversarial loss, which is the sum of those of both levels."""
        one = equilibrium_of(self.loss)
        levels = len(LEVELS)
        undecided = None if one.discriminator_loss is None else levels * one.discriminator_loss
        return Equilibrium(
            logit=one.logit,
            discriminator_loss=undecided,
            lowest_discriminator_loss=levels * one.lowest_discriminator_loss,
        )

    def augmenter(self, memory: Mapping[str, Memory], *, equilibrium: Equilibrium | None) -> Augmenter:
        """Return the augmentation of pictures; its strength stands in the discriminators' memory."""
        assert equilibrium is not None
        return Augmenter(self.augment, memory["discriminator"], undecided_logit=equilibrium.logit)

    def turns(self) -> tuple[Turn, ...]:
        """Return the discriminators' turn, and the generators' on the same real samples with noise of its own."""
        weight = self.adversarial_weight
        critic = Adversarial(loss=self.loss, weight=weight * self.discriminator_weight, scales="sum")
        generator = Adversarial(loss=self.loss, weight=weight, scales="sum")
        return (
            Turn(
                player="discriminator",
                terms=(critic, *self.discriminator_terms),
                draws="discriminator",
                fresh=True,
            ),
            Turn(
                player="generator",
                terms=(generator, *self.generator_terms),
                draws="generator",
                through=("discriminator",),
            ),
        )

    def joint(self, images_seen: int) -> bool:
        """Return whether the levels are trained together, the lower one on what the upper one makes."""
        return images_seen >= self.joint_after_images

    def inputs(self, forward: Forward) -> TermInputs:
        """Return features and pictures of both levels, what is said of them, and what the encoder makes of them.

        Terms find `condition` and `recovered_features` (N, F), `generated_classes` (N, classes), `generated_label` (N,)
        and the noise under its names. A discriminator's condition, `labels` and `fake_labels`, is the features.
        """
        # Noise, classes, and the encoder's features of the real pictures.
        draws = drawn(self.latents, forward.draw)
        z = code_of(self.latents, draws, like=forward.dtype)
        labels = forward.labels
        if self.fake_labels == "uniform":
            labels = forward.draw.integers("labels", forward.classes)
        encoder: Any = forward.helpers[ENCODER]
        with torch.no_grad():
            encoded: Tensor = encoder.encode(forward.sample)
        given = encoded[:0] if self.joint(forward.images_seen) else encoded
        # What the stack makes, and what the discriminators say of it.
        trained = forward.turn.player == "generator"
        made: Generated = forward.widened(forward.run("generator", z, labels, given, graph=trained))
        discriminate = forward.discriminators()
        outputs: dict[str, Any] = {}
        with forward.autocast("discriminator"):
            if not trained:
                outputs["real"] = forward.widened(discriminate("real")(forward.sample, encoded))
            elif any(term.needs_real_output for term in forward.turn.terms):
                with torch.no_grad():  # nothing in it depends on the generators
                    outputs["real"] = forward.widened(discriminate("real")(forward.sample, encoded))
            outputs["fake"] = forward.widened(discriminate("fake")(made.images, made.features))
        logits = {name: logits_of(output) for name, output in outputs.items()}
        # What the encoder says of generated samples, for the generators' terms.
        found = {"condition": made.condition, "generated_label": labels}
        if trained:
            found["generated_classes"] = encoder.classify(made.features)
            found["recovered_features"] = encoder.encode(made.images)
        else:
            self._report(forward, outputs, logits)
        return forward.inputs(
            discriminate("penalty"),
            real=forward.sample,
            fake=made.images,
            z=z,
            labels=encoded,
            fake_labels=made.features,
            real_logits=logits.get("real"),
            fake_logits=logits["fake"],
            outputs=outputs,
            tensors={**forward.fields, **draws, **found},
        )

    def _report(self, forward: Forward, outputs: Mapping[str, Any], logits: Mapping[str, Tensor]) -> None:
        """Score the logits of both levels and of each, and let the augmentation follow those of the pictures."""
        if forward.first and forward.augmenter.active:
            forward.metrics.add("augment/p", forward.augmenter.strength(forward.images_seen))
        for name, value in logits.items():
            forward.score(f"logits/{name}", value.mean())
            for level, own in zip(LEVELS, scales_of(outputs[name]), strict=True):
                forward.score(f"logits/{name}_{level}", own.mean())
        if forward.equilibrium is not None and (undecided := forward.equilibrium.logit) is not None:
            forward.score("sign/real", (logits["real"] - undecided).sign().mean())
        forward.augmenter.observe(*(scales_of(outputs[name])[-1] for name in ("real", "fake")))

    def arguments(self, player: str) -> tuple[str, ...]:
        """Return what the players are called with in training, in words."""
        return ("latents", "labels", "features") if player == "generator" else ("images", "features")

    def example(
        self, player: str, network: nn.Module, fields: Mapping[str, Tensor], draw: Draw
    ) -> tuple[Tensor | None, ...]:
        """Return latents (n, z_dim), labels (n,) and features (n, F), or images (n, C, H, W) and features.

        Raises:
            FrameworkError: a network lacks its attribute `features`, or the generator's noise is not the latents'.
        """
        size = getattr(network, "features", None)
        if not isinstance(size, int):
            raise FrameworkError(
                f"{type(network).__name__} has no attribute `features`, the length of the features between the levels"
            )
        features = draw.uniform("features", size)
        given = super().example(player, network, fields, draw)
        if player == "discriminator":
            return given[0], features
        widths = tuple(latent.width for latent in self.latents)
        if (own := getattr(network, "z_dims", widths)) != widths:
            raise FrameworkError(f"z_dims={own} of {type(network).__name__}, where game.latents are {widths} wide")
        return (*given, features)

    def output_fault(self, player: str, output: object, fields: Mapping[str, Tensor]) -> str | None:
        """Say what is wrong with what the stack made, or with logits."""
        shape = tuple(main_sample(fields).shape)
        if player == "discriminator":
            fault = logits_fault(output, shape[0])
            if fault is None and len(scales_of(output)) != len(LEVELS):
                return f"logits of {len(scales_of(output))} level(s): they must be those of both, the upper one's first"
            return fault
        missing = [name for name in ("features", "images", "condition") if not hasattr(output, name)]
        if missing:
            return (
                f"a {type(output).__name__} without {' and '.join(missing)}: given features it must return a "
                "dataclass of features, images and condition, as framework.networks.stacked.Generated"
            )
        return samples_fault(output.images, shape)  # type: ignore[attr-defined]

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe without an encoder, without classes or without pictures.

        Raises:
            RecipeError: names what is missing, or what does not fit the encoder.
        """
        super().check(recipe)
        if ENCODER not in recipe.helpers:
            raise RecipeError(
                f"helpers: {type(self).__name__} inverts a trained encoder: give helpers={{{ENCODER!r}: Helper(...)}}"
            )
        if not recipe.data.classes or not shows_pictures(recipe):
            raise RecipeError(f"data: {type(self).__name__} needs pictures with classes: give Shards(..., classes=10)")
        # Networks of other kinds, without such an option, are tried before a run.
        encoded = recipe.helpers[ENCODER].network.resolved({}).get("features")
        for name, player in recipe.players.items():
            own = player.network.resolved(recipe.data.derived()).get("features")
            if None not in (own, encoded) and own != encoded:
                raise RecipeError(
                    f"{name}.network: the {name} has features={own}, the encoder {encoded}: must be equal"
                )
