"""The base of games whose generator makes samples from latents and, where the data has classes, from labels.

A game of this kind needs only `turns`. What the discriminator sees, how samples are drawn and shown, and what networks
must look like is here; a game with another player, or that judges otherwise, extends `inputs` as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from framework.data.points import Vector
from framework.games.base import Game
from framework.games.checks import logits_fault, samples_fault
from framework.games.forward import Forward, main_sample
from framework.games.showing import ROWS, SCATTERED, Showing, sample_field, shows_pictures
from framework.media import Media
from framework.networks import latent_size
from framework.networks.draw import Draw
from framework.networks.latents import Gaussian, Latent, check_latents, code_of, drawn
from framework.objectives.adversarial_term import Adversarial
from framework.objectives.equilibrium import Equilibrium, equilibrium_of
from framework.objectives.outputs import logits_of
from framework.objectives.terms import TermInputs
from framework.recipe.checks import ADDED_LATER
from framework.recipe.recipe import Recipe
from framework.sampling.drawn import Drawn
from framework.sampling.draws import fixed_codes
from framework.sampling.generate import generate, generate_vectors


@dataclass(frozen=True, kw_only=True)
class LatentGame(Game):
    """A game from latents; a subclass has `turns`, and commonly the loss as a field."""

    fake_labels: Literal["uniform", "real"] = "uniform"
    """Whether the classes of generated images are drawn uniformly, or are those of the real batch."""
    latents: tuple[Latent, ...] = field(default=(), metadata=ADDED_LATER)
    """What the generator is fed; none: one Gaussian of its `z_dim`, called `z`. See `framework.networks.latents`."""

    def equilibrium(self) -> Equilibrium | None:
        """Return the equilibrium of the discriminator's first adversarial term; None where it has none."""
        for turn in self.turns():
            for term in turn.terms:
                if turn.player == "discriminator" and isinstance(term, Adversarial):
                    return equilibrium_of(term.loss)
        return None

    def inputs(self, forward: Forward) -> TermInputs:
        """Return the samples, the latents and, except for lazy terms, the logits of a turn.

        In the discriminator's turn, real samples and generated ones are judged. In the generator's, generated ones are;
        name the discriminator in the turn's `through`. A third player finds the generated samples, without a graph.
        """
        # What the turn is played on: real samples with their classes, latents, and the classes of generated samples.
        labels = forward.labels
        specified = self._latents(forward.engines["generator"].network)
        draws = drawn(specified, forward.draw)
        redrawn = labels is not None and self.fake_labels == "uniform"
        given: dict[str, Any] = {
            "real": forward.sample,
            "labels": labels,
            "fake_labels": forward.draw.integers("labels", forward.classes) if redrawn else labels,
            "z": code_of(specified, draws, like=forward.dtype),
            "tensors": {**forward.fields, **{name: value for name, value in draws.items() if name != "z"}},
        }
        given["again"] = partial(self._again, forward, given["fake_labels"])
        if forward.turn.player == "discriminator":
            return self._discriminator_inputs(forward, given)
        if forward.turn.player == "generator":
            return self._generator_inputs(forward, given)
        fake = forward.run("generator", given["z"], given["fake_labels"], graph=False)
        return forward.inputs(forward.discriminators()("penalty"), fake=fake, **given)

    def _again(self, forward: Forward, labels: Tensor | None, number: int) -> Tensor:
        """Generate other samples (n, ...) of the same classes, from further draws."""
        other, specified = forward.again(number), self._latents(forward.engines["generator"].network)
        z = code_of(specified, drawn(specified, other.draw), like=forward.dtype)
        trained = forward.turn.player == "generator"
        samples: Tensor = other.run("generator", z, labels, graph=trained, tracked=False)
        return samples

    def _discriminator_inputs(self, forward: Forward, given: dict[str, Any]) -> TermInputs:
        """Judge real and generated samples (N, ...) through the augmentation."""
        fake = forward.run("generator", given["z"], given["fake_labels"], graph=False)
        discriminate = forward.discriminators()
        if forward.lazy:
            return forward.inputs(discriminate("penalty"), fake=fake, **given)
        # The logits, and the metrics of the turn.
        if forward.first and forward.augmenter.active:
            forward.metrics.add("augment/p", forward.augmenter.strength(forward.images_seen))
        with forward.autocast("discriminator"):
            on_real = discriminate("real")(given["real"], given["labels"])
            on_fake = discriminate("fake")(fake, given["fake_labels"])
        outputs = {"real": forward.widened(on_real), "fake": forward.widened(on_fake)}
        logits = {name: logits_of(output) for name, output in outputs.items()}
        for name, value in logits.items():
            forward.score(f"logits/{name}", value.mean())
        if forward.equilibrium is not None and (undecided := forward.equilibrium.logit) is not None:
            forward.score("sign/real", (logits["real"] - undecided).sign().mean())
        forward.augmenter.observe(logits["real"], logits["fake"])
        return forward.inputs(
            discriminate("penalty"),
            fake=fake,
            real_logits=logits["real"],
            fake_logits=logits["fake"],
            outputs=outputs,
            **given,
        )

    def _generator_inputs(self, forward: Forward, given: dict[str, Any]) -> TermInputs:
        """Generate samples (N, ...), and let the frozen discriminator judge them."""
        discriminate = forward.discriminators()
        if forward.lazy:
            return forward.inputs(discriminate("penalty"), **given)
        fake = forward.run("generator", given["z"], given["fake_labels"])
        compares = any(term.needs_real_output for term in forward.turn.terms)
        with forward.autocast("discriminator"):
            outputs = {"fake": forward.widened(discriminate("fake")(fake, given["fake_labels"]))}
            if compares:
                with torch.no_grad():  # nothing in it depends on the generator
                    outputs["real"] = forward.widened(discriminate("real")(given["real"], given["labels"]))
        return forward.inputs(
            discriminate("penalty"),
            fake=fake,
            real_logits=logits_of(outputs["real"]) if compares else None,
            fake_logits=logits_of(outputs["fake"]),
            outputs=outputs,
            **given,
        )

    def example(
        self, player: str, network: nn.Module, fields: Mapping[str, Tensor], draw: Draw
    ) -> tuple[Tensor | None, ...]:
        """Return latents (n, z_dim) or samples (n, ...), and labels (n,) or None.

        Raises:
            FrameworkError: the generator has no `z_dim`, or it is not the width of the latents.
        """
        labels = fields.get("label")
        if player == "discriminator":
            return main_sample(fields), labels
        specified = self._latents(network)
        check_latents(specified, z_dim=latent_size(network))
        return code_of(specified, drawn(specified, draw), like=torch.float32), labels

    def output_fault(self, player: str, output: object, fields: Mapping[str, Tensor]) -> str | None:
        """Say what is wrong with samples or logits."""
        shape = tuple(main_sample(fields).shape)
        return samples_fault(output, shape) if player == "generator" else logits_fault(output, shape[0])

    def drawn(self, recipe: Recipe) -> Drawn:
        """Return that pictures, or vectors, are drawn from latents."""
        kind: Literal["pictures", "vectors"] = "pictures" if shows_pictures(recipe) else "vectors"
        return Drawn(kind=kind, name=sample_field(recipe).name, latents=self.latents)

    def show(self, network: nn.Module, showing: Showing) -> dict[str, Media]:
        """Return samples of fixed latents: pictures with one class per column, or points over real ones."""
        recipe = showing.recipe
        if not shows_pictures(recipe):
            return self._plotted(network, showing)
        labels = showing.labels()
        pixels = generate(network, self._fixed(network, recipe.seed, count=ROWS * showing.columns), labels)
        smaller = recipe.data.resolution // pixels.shape[-1]  # a growing generator's images are
        return {"samples/ema": showing.grid(pixels, labels, scale=smaller)}

    def show_reals(self, showing: Showing) -> dict[str, Media]:
        """Return real pictures in the layout of the samples; points are shown with the samples."""
        if not shows_pictures(showing.recipe):
            return {}
        return {"samples/real": showing.grid_of_reals(sample_field(showing.recipe).name)}

    def diverse_field(self, recipe: Recipe) -> str | None:
        """Return the field of the pictures or vectors; None where samples are neither."""
        field = sample_field(recipe)
        return field.name if shows_pictures(recipe) or isinstance(field, Vector) else None

    def real_picture(self, recipe: Recipe) -> str | None:
        """Return the field of the pictures; None where samples are none."""
        return sample_field(recipe).name if shows_pictures(recipe) else None

    def pictures(self, network: nn.Module, recipe: Recipe, *, labels: Tensor | None, count: int) -> Tensor:
        """Return samples of fixed latents: pictures, uint8 (count, C, H, W), or vectors, float32 (count, D)."""
        codes = self._fixed(network, recipe.seed, count=count, purpose="diversity")
        return (generate if shows_pictures(recipe) else generate_vectors)(network, codes, labels)

    def _plotted(self, network: nn.Module, showing: Showing) -> dict[str, Media]:
        """Return a plot of generated vectors (n, 2) over real ones; nothing where they have other than two numbers."""
        recipe = showing.recipe
        field = sample_field(recipe)
        z = self._fixed(network, recipe.seed, count=SCATTERED)
        labels = None
        if recipe.data.classes:
            labels = torch.arange(SCATTERED) % recipe.data.classes
        points = generate_vectors(network, z, labels)
        if points.dim() != 2 or points.shape[1] != 2:
            return {}
        return {"samples/ema": showing.scattered(points, label="generated", real=showing.reals.get(field.name))}

    def _fixed(self, network: nn.Module, seed: int, *, count: int, purpose: str = "samples") -> Tensor:
        """Return what the generator is called with for fixed latents, (count, z_dim)."""
        return fixed_codes(self.latents, seed=seed, count=count, z_dim=latent_size(network), purpose=purpose)

    def _latents(self, generator: nn.Module) -> tuple[Latent, ...]:
        return self.latents or (Gaussian(latent_size(generator)),)
