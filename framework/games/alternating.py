"""The alternating game of Goodfellow et al. (2014, arXiv:1406.2661, algorithm 1).

In one step the discriminator takes `critic_steps` turns, each on fresh real images, then the generator takes one. The
recipe holds an `Alternating`; `AlternatingGame` plays it with two engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from framework.engines.averaging import AVERAGED_BUFFERS, Average
from framework.engines.base import Engine, StepReport
from framework.games.scores import Scores
from framework.games.share import BatchShare, Micro
from framework.networks import latent_size
from framework.networks.blocks.spectral import power_iteration
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.penalties import Evidence, Penalty
from framework.recipe import Recipe, RecipeError
from framework.runtime.seeding import Draws


class RealBatch(Protocol):
    """This process's part of a global batch of real images."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class Alternating:
    """Whose turn it is, and what is minimised in it."""

    loss: AdversarialLoss
    critic_steps: int = 1
    """Discriminator turns per generator turn (BigGAN: 2, WGAN: 5)."""
    discriminator_terms: tuple[Penalty, ...] = ()
    generator_terms: tuple[Penalty, ...] = ()
    fake_labels: Literal["uniform", "real"] = "uniform"
    """Classes of generated images: drawn uniformly, or those of the real batch."""

    def __post_init__(self) -> None:
        if self.critic_steps < 1:
            raise RecipeError(f"game.critic_steps={self.critic_steps} must be at least 1")
        for side, terms in (("discriminator", self.discriminator_terms), ("generator", self.generator_terms)):
            for term in terms:
                if side not in term.players:
                    raise RecipeError(
                        f"game.{side}_terms: {type(term).__name__} is a penalty of the {' or '.join(term.players)}"
                    )

    def images_per_step(self, batch_size: int) -> int:
        """Each discriminator turn consumes one global batch of real images."""
        return self.critic_steps * batch_size


@dataclass(frozen=True, kw_only=True)
class Deal:
    """One process's part of one micro-batch of one turn."""

    real: Tensor
    """(n, C, H, W) in [-1, 1]."""
    labels: Tensor | None
    z: Tensor
    """(n, z_dim)."""
    fake_labels: Tensor | None
    uniform: Callable[[str], Tensor]
    """Per-image numbers in [0, 1) for a penalty, by what they are for."""
    weight: float
    """See `share.Micro`."""
    last: bool

    def evidence(self, player: Engine, fake: Tensor, on_real: Tensor | None, on_fake: Tensor) -> Evidence:
        """What penalties look at."""
        return Evidence(
            network=player.network,
            real=self.real,
            fake=fake,
            labels=self.labels,
            fake_labels=self.fake_labels,
            real_logits=on_real,
            fake_logits=on_fake,
            uniform=self.uniform,
        )


class AlternatingGame:
    """Plays an `Alternating` with a generator and a discriminator engine.

    Every random number is a function of (seed, images seen, purpose) drawn for the global batch, and every loss is a
    mean over the global batch, so the number of processes and of micro-batches does not change the game. Only batch
    statistics see the micro-batch: a batch norm normalises over one global micro-batch.
    """

    def __init__(
        self,
        rules: Alternating,
        *,
        generator: Engine,
        discriminator: Engine,
        average: Average,
        recipe: Recipe,
        share: BatchShare,
    ) -> None:
        self.rules, self.generator, self.discriminator = rules, generator, discriminator
        self.average, self._recipe, self._micros = average, recipe, share.micros()
        self._z_dim = latent_size(generator.network)
        parameter = next(generator.network.parameters())
        self.device, self._dtype = parameter.device, parameter.dtype
        self.step_images = rules.images_per_step(recipe.batch_size)
        buffers = [*generator.network.named_buffers(), *discriminator.network.named_buffers()]
        self._statistics = [(b, b.clone()) for name, b in buffers if name.rpartition(".")[2] in AVERAGED_BUFFERS]

    def step(self, batches: Iterator[RealBatch], *, images: int) -> tuple[Scores, bool]:
        """One step, starting when `images` images have been seen.

        A turn whose loss or gradient is not finite on any process changes nothing, and ends the step: batch-norm
        statistics go back to what they were, later turns and the average wait for the next step.

        Returns:
            The scores, and whether every turn had finite losses and gradients.
        """
        scores, draws = Scores(), Draws(seed=self._recipe.seed, images=images)
        finite = True
        for buffer, kept in self._statistics:
            kept.copy_(buffer)
        for turn in range(self.rules.critic_steps):
            real, labels = self._real(next(batches))  # taken even when the turn is skipped: the clock goes on
            turn_images = images + turn * self._recipe.batch_size
            finite = finite and self._discriminator_turn(real, labels, turn, turn_images, draws, scores)
        finite = finite and self._generator_turn(real, labels, images, draws, scores)
        if not finite:
            for buffer, kept in self._statistics:
                buffer.copy_(kept)
            return scores, False
        self.average.update(
            kept_share=self._recipe.averaging.kept_share(
                images_seen=images + self.step_images, step_images=self.step_images
            )
        )
        return scores, True

    def _discriminator_turn(
        self, real: Tensor, labels: Tensor | None, turn: int, images: int, draws: Draws, scores: Scores
    ) -> bool:
        player = self.discriminator
        due = [term for term in self.rules.discriminator_terms if term.due(images // self._recipe.batch_size)]
        with player.resident():
            power_iteration(player.network)  # once per turn, so that micro-batches do not change the weights in use
            for deal in self._deals(real, labels, draws, f"discriminator/{turn}"):
                with torch.no_grad(), self.generator.autocast():
                    fake = self.generator.network(deal.z, deal.fake_labels).to(self._dtype)
                with player.autocast():
                    on_real = player.network(deal.real, deal.labels)
                    on_fake = player.network(fake, deal.fake_labels)
                on_real, on_fake = on_real.to(self._dtype), on_fake.to(self._dtype)
                loss = self.rules.loss.discriminator(on_real, on_fake)
                scores.add("loss/D", loss, weight=deal.weight)
                scores.add("logits/real", on_real.mean(), weight=deal.weight)
                scores.add("logits/fake", on_fake.mean(), weight=deal.weight)
                scores.add("sign/real", on_real.sign().mean(), weight=deal.weight)
                loss = loss + _penalties(due, deal.evidence(player, fake, on_real, on_fake), scores, deal.weight)
                player.backward(loss * deal.weight, last=deal.last)
        return self._finish_turn(player, self._recipe.discriminator.schedule.at(images), "D", scores)

    def _generator_turn(self, real: Tensor, labels: Tensor | None, images: int, draws: Draws, scores: Scores) -> bool:
        player = self.generator
        due = [term for term in self.rules.generator_terms if term.due(images // self.step_images)]
        with player.resident(), self.discriminator.frozen() as judge:
            power_iteration(player.network)
            for deal in self._deals(real, labels, draws, "generator"):
                with player.autocast():
                    fake = player.network(deal.z, deal.fake_labels)
                with self.discriminator.autocast():
                    on_fake = judge(fake, deal.fake_labels).to(self._dtype)
                    on_real = None
                    if self.rules.loss.needs_real_logits:
                        on_real = judge(deal.real, deal.labels).to(self._dtype)
                loss = self.rules.loss.generator(on_fake, on_real)
                scores.add("loss/G", loss, weight=deal.weight)
                loss = loss + _penalties(due, deal.evidence(player, fake, on_real, on_fake), scores, deal.weight)
                player.backward(loss * deal.weight, last=deal.last)
        return self._finish_turn(player, self._recipe.generator.schedule.at(images), "G", scores)

    @staticmethod
    def _finish_turn(player: Engine, lr_factor: float, letter: str, scores: Scores) -> bool:
        report: StepReport = player.step(lr_factor=lr_factor)
        if report.finite:
            scores.add(f"grad_norm/{letter}", report.grad_norm)
        return report.finite

    def _real(self, batch: RealBatch) -> tuple[Tensor, Tensor | None]:
        """Images in [-1, 1], (n, C, H, W), and labels (n,) or None without classes, on the device."""
        # Loaders hand over pixels as decoders make them (channels last); the device sorts them into planes.
        images = batch.images.to(self.device, non_blocking=True)
        images = images.to(self._dtype, memory_format=torch.contiguous_format).div_(127.5).sub_(1.0)
        if self._recipe.data.classes == 0:
            return images, None
        return images, batch.labels.to(self.device, non_blocking=True)

    def _deals(self, real: Tensor, labels: Tensor | None, draws: Draws, purpose: str) -> Iterator[Deal]:
        """This process's micro-batches of one turn."""
        z, fake_labels = self._latents(draws, purpose, labels)
        for micro in self._micros:
            yield Deal(
                real=real[micro.local],
                labels=_rows(labels, micro),
                z=z[micro.local],
                fake_labels=_rows(fake_labels, micro),
                uniform=self._uniform(draws, purpose, micro),
                weight=micro.weight,
                last=micro.last,
            )

    def _latents(self, draws: Draws, purpose: str, real_labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """This process's rows of the global latents (n, z_dim) and labels (n,)."""
        batch_size, classes = self._recipe.batch_size, self._recipe.data.classes
        z = self._mine(draws.normal(f"{purpose}/z", batch_size, self._z_dim)).to(self._dtype)
        if self.rules.fake_labels == "real" or classes == 0:
            return z, real_labels
        return z, self._mine(draws.integers(f"{purpose}/labels", classes, batch_size))

    def _mine(self, values: Tensor) -> Tensor:
        """This process's rows of a tensor drawn for the global batch, on the device, micro-batch after micro-batch."""
        return torch.cat([values[micro.rows] for micro in self._micros]).to(self.device, non_blocking=True)

    def _uniform(self, draws: Draws, purpose: str, micro: Micro) -> Callable[[str], Tensor]:
        """Per-image uniform numbers for a penalty, by what they are for."""

        def draw(what: str) -> Tensor:
            mine = draws.uniform(f"{purpose}/{what}", self._recipe.batch_size)[micro.rows]
            return mine.to(self.device, self._dtype)

        return draw


def _penalties(due: list[Penalty], evidence: Evidence, scores: Scores, weight: float) -> Tensor | float:
    """The sum of the penalties that are due.

    They join the loss in one backward, so that gradients are reduced once, and are computed outside autocast, because
    second derivatives need fp32.
    """
    total: Tensor | float = 0.0
    for term in due:
        penalty = term(evidence)
        scores.add(f"penalty/{type(term).__name__}", penalty / term.every, weight=weight)
        total = total + penalty
    return total


def _rows(labels: Tensor | None, micro: Micro) -> Tensor | None:
    return None if labels is None else labels[micro.local]
