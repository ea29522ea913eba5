"""The alternating game of Goodfellow et al. (2014, arXiv:1406.2661, algorithm 1).

In one step the discriminator takes `critic_steps` turns, each on fresh real images, then the generator takes one. The
recipe holds an `Alternating`; `AlternatingGame` plays it with two engines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from framework.augment import Augmentation
from framework.engines.base import Engine, StepReport
from framework.engines.ema import AVERAGED_BUFFERS, EMA
from framework.games.augmentation import Augmenter
from framework.games.metrics import Metrics
from framework.games.microbatch import BatchPartition, BatchSplitter, MicroBatch
from framework.networks import grow, latent_size
from framework.networks.blocks import moving
from framework.networks.blocks.norm import share_statistics
from framework.networks.blocks.spectral import SpectralNorm, power_iteration
from framework.networks.draw import stochastic_inputs
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.equilibrium import equilibrium_of
from framework.objectives.penalties import Discriminate, Memory, Penalty, PenaltyInputs
from framework.recipe import SIDES, Player, Recipe
from framework.recipe.checks import check_fields
from framework.recipe.growth import Segment
from framework.recipe.schedules import Ramp, values_of
from framework.runtime.seeding import NEW_RUNS, Draws, DrawsVersion
from framework.tracking.records import check_name
from framework.utils.aliases import first_class_name
from framework.utils.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Alternating:
    """The rules of an alternating game: how often each player takes a turn, and what is minimised in it.

    Raises:
        RecipeError: a field that cannot work; the message names it.
    """

    loss: AdversarialLoss
    critic_steps: int = 1
    """The number of discriminator turns per generator turn (BigGAN: 2, WGAN: 5)."""
    discriminator_terms: tuple[Penalty, ...] = ()
    generator_terms: tuple[Penalty, ...] = ()
    lazy_steps: bool = False
    """Penalties with `every` above 1 get an optimiser step of their own after the turn's, as StyleGAN2 does
    (arXiv:1912.04958, appendix B; see `Adam.lazy`). Otherwise they join the loss of the turns on which they are due."""
    augment: Augmentation | None = None
    """The augmentation of all images that the discriminator sees, in both turns and in its penalties."""
    blur: Ramp | None = None
    """The standard deviation in pixels of a Gaussian blur before the augmentation, which keeps a discriminator from
    fine detail early on (StyleGAN3, arXiv:2106.12423, appendix F.2)."""
    fake_labels: Literal["uniform", "real"] = "uniform"
    """Whether the classes of generated images are drawn uniformly, or are those of the real batch."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.critic_steps < 1:
            raise RecipeError(f"game.critic_steps={self.critic_steps} must be at least 1")
        if self.blur is not None and min(values_of(self.blur)) < 0:
            raise RecipeError(f"game.blur={self.blur} must not be negative: it is a standard deviation in pixels")
        for term in (*self.discriminator_terms, *self.generator_terms):
            check_name(penalty_metric(term))
        for side, terms in (("discriminator", self.discriminator_terms), ("generator", self.generator_terms)):
            for term in terms:
                if side not in term.players:
                    raise RecipeError(
                        f"game.{side}_terms: {type(term).__name__} is a penalty of the {' or '.join(term.players)}"
                    )

    def images_per_step(self, batch_size: int) -> int:
        """Return the real images of one step: each discriminator turn consumes one global batch of them."""
        return self.critic_steps * batch_size


def penalty_metric(penalty: Penalty) -> str:
    """Return the name under which a penalty is scored; a renamed class keeps it, for the sake of curves begun."""
    return f"penalty/{first_class_name(type(penalty).__name__)}"


class RealBatch(Protocol):
    """This process's part of a global batch of real images."""

    images: Tensor
    """Pixels (n, C, H, W), uint8."""
    labels: Tensor
    """Classes (n,), int64."""


class AlternatingGame:
    """An `Alternating` game, played with a generator and a discriminator engine on one segment of the clock.

    Every random number is a function of (seed, images seen, purpose) drawn for the global batch, and every loss is a
    mean over the global batch, so the number of processes and of micro-batches does not change the game. Only batch
    statistics see the micro-batch: a batch norm normalises over one global micro-batch.

    Attributes:
        step_images: real images per step.
        memory: what penalties and augmentation remember between turns, by player; part of a checkpoint.

    Raises:
        DataError: some process would be left without images.
    """

    def __init__(
        self,
        rules: Alternating,
        *,
        generator: Engine,
        discriminator: Engine,
        average: EMA,
        recipe: Recipe,
        partition: BatchPartition,
        segment: Segment | None = None,
        memory: dict[str, Memory] | None = None,
        draws_version: DrawsVersion = NEW_RUNS,
    ) -> None:
        self.rules, self.generator, self.discriminator = rules, generator, discriminator
        self.average, self._recipe, self._draws_version = average, recipe, draws_version
        self.segment = segment or recipe.segments()[0]
        self.memory: dict[str, Memory] = memory if memory is not None else {side: {} for side in SIDES}
        parameter = next(generator.network.parameters())
        self.device, self._dtype = parameter.device, parameter.dtype
        self._batch_size = self.segment.batch_size
        self.step_images = rules.images_per_step(self._batch_size)
        self._splitter = BatchSplitter(
            slices=partition.slices(),
            batch_size=self._batch_size,
            z_dim=latent_size(generator.network),
            classes=recipe.data.classes,
            draw_labels=rules.fake_labels == "uniform",
            device=self.device,
            dtype=self._dtype,
        )
        self._undecided_logit = equilibrium_of(rules.loss).logit
        self._augmenter = Augmenter(
            rules.augment, self.memory["discriminator"], undecided_logit=self._undecided_logit, blur=rules.blur
        )
        buffers = [*generator.network.named_buffers(), *discriminator.network.named_buffers()]
        self._statistics = [(b, b.clone()) for name, b in buffers if name.rpartition(".")[2] in AVERAGED_BUFFERS]

    def step(self, batches: Iterator[RealBatch], *, images_seen: int) -> tuple[Metrics, bool]:
        """Play one step, starting when `images_seen` images have been seen (a collective).

        A turn whose loss or gradient is not finite on any process changes nothing, and ends the step: batch-norm
        statistics and memories go back to what they were, later turns and the average wait for the next step.

        Args:
            batches: where each discriminator turn takes its real images and labels from.
            images_seen: the clock, from which all random numbers follow.

        Returns:
            The metrics, and whether every turn had finite losses and gradients.
        """
        # Keep what a step that does not count must give back.
        metrics = Metrics()
        draws = Draws(seed=self._recipe.seed, images_seen=images_seen, version=self._draws_version)
        finite = True
        remembered = {side: {name: value.clone() for name, value in m.items()} for side, m in self.memory.items()}
        for buffer, kept in self._statistics:
            kept.copy_(buffer)
        # The discriminator's turns, each on fresh real images; then the generator's.
        self._grow(images_seen, metrics)
        for turn in range(self.rules.critic_steps):
            # Images are taken even when the turn is skipped: the clock goes on.
            real, labels = self._real(next(batches), images_seen)
            turn_images = images_seen + turn * self._batch_size
            finite = finite and self._discriminator_turn(real, labels, turn, turn_images, draws, metrics)
        finite = finite and self._generator_turn(real, labels, images_seen, draws, metrics)
        # Undo what a step that does not count has left behind.
        if not finite:
            for buffer, kept in self._statistics:
                buffer.copy_(kept)
            for side, memory in remembered.items():
                self.memory[side].clear()
                self.memory[side].update(memory)
            for player in (self.generator, self.discriminator):
                moving.forget(player.network)
            self._augmenter.forget()
            return metrics, False
        # Advance statistics, the strength of augmentation, and the average.
        for player in (self.generator, self.discriminator):
            moving.advance(player.network)
            share_statistics(player.network)
        self._augmenter.adjust(step=self._turn_number(images_seen) // self.rules.critic_steps, images=self.step_images)
        self.average.update(
            kept_share=self._recipe.averaging.kept_share(
                images_seen=images_seen + self.step_images, step_images=self.step_images
            )
        )
        return metrics, True

    def _grow(self, images_seen: int, metrics: Metrics) -> None:
        """Set the shape of both players, a function of the clock (ProGAN, arXiv:1710.10196)."""
        if self._recipe.growth is None:
            return
        alpha = self.segment.alpha(images_seen)
        for player in (self.generator, self.discriminator):
            grow(player.network, resolution=self.segment.resolution, alpha=alpha)
        metrics.add("growth/alpha", alpha)
        metrics.add("growth/resolution", float(self.segment.resolution))

    def _turn_number(self, images_seen: int) -> int:
        """Return the number of discriminator turns since the segment began."""
        return (images_seen - self.segment.start) // self._batch_size

    def _discriminator_turn(
        self, real: Tensor, labels: Tensor | None, turn: int, images_seen: int, draws: Draws, metrics: Metrics
    ) -> bool:
        """Play one turn of the discriminator on `real` (n, C, H, W), `labels` (n,); returns whether it was finite."""
        player = self.discriminator
        joined, lazy = self._due(self.rules.discriminator_terms, self._turn_number(images_seen))
        if self._augmenter.active:
            metrics.add("augment/p", self._augmenter.strength(images_seen))
        with _opened(player, joined):
            for micro_batch in self._splitter.split(real, labels, draws, f"discriminator/{turn}"):
                # Judge real and generated images through the augmentation.
                fake = self._imagined(micro_batch)
                discriminate = self._augmenter.through(player.network, images_seen=images_seen, draw=micro_batch.draw)
                with player.autocast():
                    on_real = discriminate("real")(micro_batch.real, micro_batch.labels)
                    on_fake = discriminate("fake")(fake, micro_batch.fake_labels)
                on_real, on_fake = on_real.to(self._dtype), on_fake.to(self._dtype)
                # The adversarial loss, and the metrics of the turn.
                loss = self.rules.loss.discriminator(on_real, on_fake)
                metrics.add("loss/D", loss, weight=micro_batch.weight)
                metrics.add("logits/real", on_real.mean(), weight=micro_batch.weight)
                metrics.add("logits/fake", on_fake.mean(), weight=micro_batch.weight)
                if self._undecided_logit is not None:
                    metrics.add("sign/real", (on_real - self._undecided_logit).sign().mean(), weight=micro_batch.weight)
                self._augmenter.observe(on_real, on_fake)
                # Penalties that join the loss, and the gradient.
                inputs = self._penalty_inputs(
                    "discriminator", discriminate("penalty"), micro_batch, images_seen, fake, on_real, on_fake
                )
                loss = loss + _penalties(joined, inputs, metrics, micro_batch.weight)
                player.backward(loss * micro_batch.weight, last=micro_batch.last)
        # The optimiser step, and one more for lazy penalties.
        if not self._finish_turn("discriminator", images_seen, "D", metrics):
            return False
        micro_batches = self._splitter.split(real, labels, draws, f"discriminator/{turn}/lazy")
        return self._lazy_step("discriminator", lazy, micro_batches, images_seen, metrics)

    def _generator_turn(
        self, real: Tensor, labels: Tensor | None, images_seen: int, draws: Draws, metrics: Metrics
    ) -> bool:
        """Play the generator's turn; returns whether it was finite. Real images are those of the last turn."""
        player = self.generator
        joined, lazy = self._due(self.rules.generator_terms, self._turn_number(images_seen) // self.rules.critic_steps)
        with _opened(player, joined), self.discriminator.frozen() as network:
            for micro_batch in self._splitter.split(real, labels, draws, "generator"):
                # Generate images, and let the frozen discriminator judge them.
                discriminate = self._augmenter.through(network, images_seen=images_seen, draw=micro_batch.draw)
                with player.autocast():
                    fake = player.network(
                        micro_batch.z, micro_batch.fake_labels, **stochastic_inputs(player.network, micro_batch.draw)
                    )
                with self.discriminator.autocast():
                    on_fake = discriminate("fake")(fake, micro_batch.fake_labels).to(self._dtype)
                    on_real = None
                    if self.rules.loss.needs_real_logits:
                        with torch.no_grad():  # nothing in it depends on the generator
                            on_real = discriminate("real")(micro_batch.real, micro_batch.labels).to(self._dtype)
                # The adversarial loss, penalties that join it, and the gradient.
                loss = self.rules.loss.generator(on_fake, on_real)
                metrics.add("loss/G", loss, weight=micro_batch.weight)
                inputs = self._penalty_inputs(
                    "generator", discriminate("penalty"), micro_batch, images_seen, fake, on_real, on_fake
                )
                loss = loss + _penalties(joined, inputs, metrics, micro_batch.weight)
                player.backward(loss * micro_batch.weight, last=micro_batch.last)
        # The optimiser step, and one more for lazy penalties.
        if not self._finish_turn("generator", images_seen, "G", metrics):
            return False
        micro_batches = self._splitter.split(real, labels, draws, "generator/lazy")
        return self._lazy_step("generator", lazy, micro_batches, images_seen, metrics)

    def _lazy_step(
        self, side: str, terms: list[Penalty], micro_batches: Iterator[MicroBatch], images_seen: int, metrics: Metrics
    ) -> bool:
        """Take an optimiser step with lazy penalties alone, if any are due (arXiv:1912.04958, appendix B)."""
        if not terms:
            return True
        player: Engine = getattr(self, side)
        opponent = self.discriminator.frozen() if side == "generator" else nullcontext(self.discriminator.network)
        with player.resident(), opponent as network:
            for micro_batch in micro_batches:
                discriminate = self._augmenter.through(network, images_seen=images_seen, draw=micro_batch.draw)
                fake = self._imagined(micro_batch) if side == "discriminator" else None
                inputs = self._penalty_inputs(side, discriminate("penalty"), micro_batch, images_seen, fake)
                player.backward(
                    _penalties(terms, inputs, metrics, micro_batch.weight) * micro_batch.weight, last=micro_batch.last
                )
        return self._finish_turn(side, images_seen, f"{side[0].upper()}_lazy", metrics)

    def _due(self, terms: tuple[Penalty, ...], turn: int) -> tuple[list[Penalty], list[Penalty]]:
        """Return the penalties of this turn that join its loss, and those with a step of their own."""
        due = [term for term in terms if term.due(turn)]
        apart = [term for term in due if self.rules.lazy_steps and term.every > 1]
        return [term for term in due if term not in apart], apart

    def _imagined(self, micro_batch: MicroBatch) -> Tensor:
        """Return generated images (n, C, H, W) without a graph."""
        network = self.generator.network
        with torch.no_grad(), self.generator.autocast():
            fake: Tensor = network(
                micro_batch.z, micro_batch.fake_labels, **stochastic_inputs(network, micro_batch.draw)
            )
        return fake.to(self._dtype)

    def _penalty_inputs(
        self,
        side: str,
        discriminate: Discriminate,
        micro_batch: MicroBatch,
        images_seen: int,
        fake: Tensor | None = None,
        on_real: Tensor | None = None,
        on_fake: Tensor | None = None,
    ) -> PenaltyInputs:
        """Gather what penalties look at: images (n, C, H, W), labels and logits (n,) of one micro-batch."""
        return PenaltyInputs(
            network=getattr(self, side).network,
            discriminate=discriminate,
            draw=micro_batch.draw.under("penalty"),
            memory=self.memory[side],
            images_seen=images_seen,
            z=micro_batch.z,
            rows=micro_batch.rows,
            real=micro_batch.real,
            fake=fake,
            labels=micro_batch.labels,
            fake_labels=micro_batch.fake_labels,
            real_logits=on_real,
            fake_logits=on_fake,
        )

    def _finish_turn(self, side: str, images_seen: int, letter: str, metrics: Metrics) -> bool:
        """Step the optimiser as the schedule says; returns whether loss and gradient were finite on all processes."""
        engine: Engine = getattr(self, side)
        player: Player = getattr(self._recipe, side)
        lr_factor = player.schedule.at(images_seen) * self.segment.lr_factor
        report: StepReport = engine.step(lr_factor=lr_factor, betas=player.optimizer.betas_at(images_seen))
        if report.finite:
            metrics.add(f"grad_norm/{letter}", report.grad_norm)
        return report.finite

    def _real(self, batch: RealBatch, images_seen: int) -> tuple[Tensor, Tensor | None]:
        """Return images (n, C, H, W) in [-1, 1], and labels (n,) or None without classes, on the device."""
        # Loaders hand over pixels as decoders make them (channels last); the device sorts them into planes.
        pixels = batch.images.to(self.device, non_blocking=True)
        pixels = pixels.to(self._dtype, memory_format=torch.contiguous_format).div_(127.5).sub_(1.0)
        if self.segment.fading:  # arXiv:1710.10196, appendix A.1: real images fade as the generator's do
            coarse = functional.interpolate(functional.avg_pool2d(pixels, 2), scale_factor=2.0)
            pixels = torch.lerp(coarse, pixels, self.segment.alpha(images_seen))
        if self._recipe.data.classes == 0:
            return pixels, None
        return pixels, batch.labels.to(self.device, non_blocking=True)


@contextmanager
def _opened(player: Engine, terms: list[Penalty]) -> Iterator[None]:
    """Open a player's turn: iterate spectral norms once, and gather parameters for as long as penalties need them."""
    throughout = any(term.needs_second_derivative or term.needs_parameters for term in terms)
    normalised = any(isinstance(module, SpectralNorm) for module in player.network.modules())
    with ExitStack() as stack:
        if throughout or normalised:  # otherwise engines that shard parameters would gather them for nothing
            stack.enter_context(player.resident())
        power_iteration(player.network)  # once per turn, so that micro-batches do not change the weights in use
        if not throughout:
            stack.close()
        yield


def _penalties(due: list[Penalty], inputs: PenaltyInputs, metrics: Metrics, weight: float) -> Tensor:
    """Return the sum (a scalar) of the penalties that are due, outside autocast: second derivatives need fp32."""
    assert inputs.z is not None
    total = inputs.z.new_zeros(())
    for term in due:
        penalty = term(inputs)
        metrics.add(penalty_metric(term), penalty / term.every, weight=weight)
        total = total + penalty
    return total
