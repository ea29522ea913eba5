"""Plays any game: takes its turns one after the other, and does once what all games need.

The runner cuts global batches into micro-batches, steps the optimisers as the schedules say, undoes a step that was not
finite, gives lazy terms steps of their own, and moves statistics, augmentation and averages. What a game computes is
in the game (`framework.games.base`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.data.fields import INDEX_SUFFIX, Label, fields_of
from framework.engines.base import Engine, StepReport
from framework.engines.ema import AVERAGED_BUFFERS, EMA
from framework.games.base import Game, Turn
from framework.games.forward import Forward
from framework.games.metrics import Metrics
from framework.games.microbatch import BatchPartition, BatchSplitter, MicroBatch
from framework.games.mismatched import with_mismatched
from framework.networks import grow
from framework.networks.blocks import moving
from framework.networks.blocks.norm import share_statistics
from framework.networks.blocks.spectral import SpectralNorm, power_iteration
from framework.objectives.terms import Memory, Term, TermInputs, letter_of
from framework.recipe import Recipe
from framework.recipe.growth import Segment
from framework.runtime.seeding import NEW_RUNS, Draws, DrawsVersion

Fields = dict[str, Tensor]
"""The samples of a global batch on this process, by field, as networks take them."""


class RealBatch(Protocol):
    """This process's part of a global batch of real samples."""

    @property
    def fields(self) -> Mapping[str, Tensor]:
        """Every field of the samples by name, rows (n, ...) as the data has them, on the host."""
        ...


class GameRunner:
    """A game, played with its players' engines on one segment of the clock.

    Every random number is a function of (seed, images seen, purpose) drawn for the global batch, and every loss is a
    mean over the global batch, so the number of processes and of micro-batches does not change the game. Only batch
    statistics see the micro-batch: a batch norm normalises over one global micro-batch.

    Attributes:
        rules: the game.
        players: the engines by player.
        averages: the moving averages by player.
        memory: what terms and augmentation remember between turns, by player; part of a checkpoint.

    Raises:
        DataError: some process would be left without samples.
    """

    def __init__(
        self,
        game: Game,
        *,
        players: Mapping[str, Engine],
        averages: Mapping[str, EMA],
        recipe: Recipe,
        partition: BatchPartition,
        segment: Segment | None = None,
        memory: dict[str, Memory] | None = None,
        helpers: Mapping[str, nn.Module] | None = None,
        draws_version: DrawsVersion = NEW_RUNS,
    ) -> None:
        self.rules, self.players, self.averages = game, players, averages
        self._recipe, self._helpers, self._draws_version = recipe, helpers or {}, draws_version
        self.segment = segment or recipe.segments()[0]
        self.memory: dict[str, Memory] = memory if memory is not None else {player: {} for player in players}
        parameter = next(next(iter(players.values())).network.parameters())
        self.device, self._dtype = parameter.device, parameter.dtype
        self._batch_size = self.segment.batch_size
        terms = [term for turn in game.turns() for term in turn.terms]
        self._mismatched = sorted({name for term in terms for name in term.needs_mismatched})
        self._fields = fields_of(recipe.data)
        self._classes = next((field.classes for field in self._fields if isinstance(field, Label)), 0)
        self._twins: dict[str, nn.Module] = {}
        self._slices = partition.slices()
        self._splitter = BatchSplitter(
            slices=self._slices,
            batch_size=self._batch_size,
            device=self.device,
            dtype=self._dtype,
            derive=recipe.data.derive,
        )
        self._equilibrium = game.equilibrium()
        self._augmenter = game.augmenter(self.memory, equilibrium=self._equilibrium)
        buffers = [named for player in players.values() for named in player.network.named_buffers()]
        self._statistics = [(b, b.clone()) for name, b in buffers if name.rpartition(".")[2] in AVERAGED_BUFFERS]

    def images_of_step(self, images_seen: int) -> int:
        """Return the number of real samples that the step after `images_seen` images consumes."""
        return self._batch_size * sum(turn.fresh for turn in self.rules.turns_of(self._step_number(images_seen)))

    def step(self, batches: Iterator[RealBatch], *, images_seen: int) -> tuple[Metrics, bool]:
        """Play one step, starting when `images_seen` images have been seen (a collective).

        A turn whose loss or gradient is not finite on any process changes nothing, and ends the step: batch-norm
        statistics and memories go back to what they were, later turns and the average wait for the next step.

        Args:
            batches: where each fresh turn takes its real samples from.
            images_seen: the clock, from which all random numbers follow.

        Returns:
            The metrics, and whether every turn had finite losses and gradients.
        """
        # Keep what a step that does not count must give back.
        metrics = Metrics()
        draws = Draws(seed=self._recipe.seed, images_seen=images_seen, version=self._draws_version)
        finite, taken, fields = True, 0, Fields()
        remembered = {player: dict(memory) for player, memory in self.memory.items()}
        for buffer, kept in self._statistics:
            kept.copy_(buffer)
        # The turns, in the order in which the game lists them.
        self._grow(images_seen, metrics)
        step = self._step_number(images_seen)
        counted = {player: self.rules.turns_before(step, player) for player in self.players}
        waiting: list[Turn] = []
        for turn in self.rules.turns_of(step):
            turn_images = images_seen
            if turn.fresh:  # taken even when the turn is skipped: the clock goes on
                fields = self._real(next(batches), images_seen)
                turn_images += taken * self._batch_size
                taken += 1
            number = counted[turn.player]
            counted[turn.player] += 1
            finite = finite and self._turn(
                turn, fields, number, turn_images, draws, metrics, batch=taken - 1, waiting=waiting
            )
        # Undo what a step that does not count has left behind, or advance what goes on.
        if not finite:
            self._undo(remembered)
            return metrics, False
        self._advance(images_seen)
        return metrics, True

    def _undo(self, remembered: dict[str, Memory]) -> None:
        """Give back the statistics and the memory of before the step."""
        for buffer, kept in self._statistics:
            buffer.copy_(kept)
        for name, memory in remembered.items():
            self.memory[name].clear()
            self.memory[name].update(memory)
        for player in self.players.values():
            moving.forget(player.network)
        self._augmenter.forget()

    def _advance(self, images_seen: int) -> None:
        """Advance statistics, the strength of augmentation, and the averages."""
        for player in self.players.values():
            moving.advance(player.network)
            share_statistics(player.network)
        step_images = self.images_of_step(images_seen)
        self._augmenter.adjust(step=self._step_number(images_seen), images=step_images)
        kept_share = self._recipe.averaging.kept_share(images_seen=images_seen + step_images, step_images=step_images)
        for average in self.averages.values():
            average.update(kept_share=kept_share)

    def _grow(self, images_seen: int, metrics: Metrics) -> None:
        """Set the shape of all players, a function of the clock (ProGAN, arXiv:1710.10196)."""
        if self._recipe.growth is None:
            return
        alpha = self.segment.alpha(images_seen)
        for player in self.players.values():
            grow(player.network, resolution=self.segment.resolution, alpha=alpha)
        metrics.add("growth/alpha", alpha)
        metrics.add("growth/resolution", float(self.segment.resolution))

    def _step_number(self, images_seen: int) -> int:
        """Return the number of steps since the segment began."""
        return self.rules.step_of((images_seen - self.segment.start) // self._batch_size)

    def _turn(
        self,
        turn: Turn,
        fields: Fields,
        number: int,
        images_seen: int,
        draws: Draws,
        metrics: Metrics,
        *,
        batch: int = 0,
        waiting: list[Turn],
    ) -> bool:
        """Play one turn on samples; returns whether it, and those that waited for it, were finite on all processes.

        Args:
            number: the player's turns before this one.
            batch: the number of the global batch within the step.
            waiting: turns whose optimiser step is due after this turn's gradients; this one joins them, or ends them.
        """
        player = self.players[turn.player]
        loss, *others = turn.terms
        joined, lazy = _due(tuple(others), number, apart=turn.lazy_steps)
        with _opened(player, [loss, *joined]), self._networks(turn) as networks:
            split = self._splitter.split(fields, draws, turn.draws, batch=batch, repeats=turn.repeats)
            for place, micro_batch in enumerate(split):
                forward = self._forward(turn, networks, micro_batch, images_seen, metrics, first=place == 0)
                inputs = self.rules.inputs(forward)
                # The turn's loss, terms that join it, and the gradient; outside autocast, for second derivatives.
                total = self._scored([loss], inputs, forward)
                total = total + self._scored(joined, inputs, forward)
                player.backward(total * micro_batch.weight, last=micro_batch.last)
        # The optimiser step, with those that waited, and one more for lazy terms.
        waiting.append(turn)
        if turn.simultaneous:
            return True
        finite = [self._finish_turn(one.player, images_seen, letter_of(one.player), metrics) for one in waiting]
        waiting.clear()
        if not all(finite) or not lazy:
            return all(finite)
        split = self._splitter.split(fields, draws, f"{turn.draws}/lazy", batch=batch, repeats=turn.repeats)
        return self._lazy_step(turn, lazy, split, images_seen, metrics)

    def _lazy_step(
        self, turn: Turn, terms: list[Term], split: Iterator[MicroBatch], images_seen: int, metrics: Metrics
    ) -> bool:
        """Take an optimiser step with lazy terms alone (StyleGAN2, arXiv:1912.04958, appendix B)."""
        player = self.players[turn.player]
        player.begin_turn()
        with player.resident(), self._networks(turn) as networks:
            for place, micro_batch in enumerate(split):
                forward = self._forward(turn, networks, micro_batch, images_seen, metrics, first=place == 0, lazy=True)
                total = self._scored(terms, self.rules.inputs(forward), forward)
                player.backward(total * micro_batch.weight, last=micro_batch.last)
        return self._finish_turn(turn.player, images_seen, f"{letter_of(turn.player)}_lazy", metrics)

    @contextmanager
    def _networks(self, turn: Turn) -> Iterator[dict[str, nn.Module]]:
        """Yield all networks; those through which the gradient flows are frozen."""
        networks = {name: player.network for name, player in self.players.items()}
        with ExitStack() as stack:
            for name in turn.through:
                networks[name] = stack.enter_context(self.players[name].frozen())
            yield networks

    def _forward(
        self,
        turn: Turn,
        networks: Mapping[str, nn.Module],
        micro_batch: MicroBatch,
        images_seen: int,
        metrics: Metrics,
        *,
        first: bool,
        lazy: bool = False,
    ) -> Forward:
        return Forward(
            turn=turn,
            micro_batch=micro_batch,
            engines=self.players,
            networks=networks,
            recipe=self._recipe,
            segment=self.segment,
            twins=self._twins,
            helpers=self._helpers,
            memory=self.memory,
            images_seen=images_seen,
            classes=self._classes,
            equilibrium=self._equilibrium,
            augmenter=self._augmenter,
            metrics=metrics,
            first=first,
            lazy=lazy,
        )

    def _scored(self, terms: list[Term], inputs: TermInputs, forward: Forward) -> Tensor:
        """Return the sum of terms, a scalar, and log each of them."""
        weighted = []
        for term in terms:
            value = term.value(inputs)
            weighted.append(term.weighted(value, images_seen=inputs.images_seen))
            scored = term.metrics(value, weighted[-1], player=inputs.player) | term.further_metrics(inputs)
            for name, metric in scored.items():
                forward.score(name, metric)
        if len(weighted) == 1:
            return weighted[0]
        return sum(weighted, torch.zeros((), dtype=self._dtype, device=self.device))

    def _finish_turn(self, name: str, images_seen: int, letter: str, metrics: Metrics) -> bool:
        """Step the optimiser as the schedule says; returns whether loss and gradient were finite on all processes."""
        player = self._recipe.players[name]
        lr_factor = player.schedule.at(images_seen) * self.segment.lr_factor
        moved = player.optimizer.hyperparameters_at(images_seen)
        report: StepReport = self.players[name].step(lr_factor=lr_factor, hyperparameters=moved)
        if report.finite:
            metrics.add(f"grad_norm/{letter}", report.grad_norm)
        return report.finite

    def _real(self, batch: RealBatch, images_seen: int) -> Fields:
        """Return the samples on the device, as networks take them."""
        fields = Fields()
        for field in self._fields:
            fields[field.name] = field.to_tensor(batch.fields[field.name], device=self.device, dtype=self._dtype)
            if field.ragged:
                index = batch.fields[field.name + INDEX_SUFFIX]
                fields[field.name + INDEX_SUFFIX] = index.to(self.device, non_blocking=True)
        if self.segment.fading:  # arXiv:1710.10196, appendix A.1: real images fade as the generator's do
            pixels = fields["image"]
            coarse = functional.interpolate(functional.avg_pool2d(pixels, 2), scale_factor=2.0)
            fields["image"] = torch.lerp(coarse, pixels, self.segment.alpha(images_seen))
        return with_mismatched(fields, self._mismatched, slices=self._slices, batch_size=self._batch_size)


def _due(terms: tuple[Term, ...], turn: int, *, apart: bool) -> tuple[list[Term], list[Term]]:
    """Return the terms of this turn that join its loss, and those with a step of their own, where these go `apart`."""
    due = [term for term in terms if term.due(turn)]
    lazy = [term for term in due if apart and term.every > 1]
    return [term for term in due if term not in lazy], lazy


@contextmanager
def _opened(player: Engine, terms: list[Term]) -> Iterator[None]:
    """Open a player's turn: clip weights, iterate spectral norms once, gather parameters while terms need them."""
    throughout = any(term.needs_second_derivative or term.needs_parameters for term in terms)
    normalised = any(isinstance(module, SpectralNorm) for module in player.network.modules())
    player.begin_turn()
    with ExitStack() as stack:
        if throughout or normalised:  # otherwise engines that shard parameters would gather them for nothing
            stack.enter_context(player.resident())
        power_iteration(player.network)  # once per turn, so that micro-batches do not change the weights in use
        if not throughout:
            stack.close()
        yield
