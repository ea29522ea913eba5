"""Check, before anything is written, that networks can be trained on these processes and resumed to the bit.

The check is one forward of each player at every resolution, as its game calls it, and one of the losses, on
meta tensors, so that it costs little for any network. Only what was seen is refused, in one sentence each, with what to
write instead; docs/decisions/008-what-a-network-may-do.md has the reasons. A network that needs numbers (`.item()`,
NumPy) is tried with two samples on the CPU. Where that fails too, although training might not, the user is told that
the network was not checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from framework.games.base import Game
from framework.games.example import example_fields
from framework.networks import grow
from framework.networks.observe import Observed
from framework.objectives.adversarial import AdversarialLoss, with_draws
from framework.objectives.adversarial_term import Adversarial
from framework.recipe import Recipe, RecipeError
from framework.recipe.growth import Segment, dearest
from framework.train.memory import largest_share
from framework.train.trial import (
    CPU,
    META,
    SAMPLES,
    Trial,
    attempted,
    built,
    check_signature,
    draws_for,
    needs_others,
    shapes_only,
    told,
    tried,
)
from framework.utils.errors import FrameworkError

_BLOCKS = "framework.networks.blocks"
_SHOWN = 4


class Tolerated(Enum):
    """The runs in which a habit does no harm."""

    NOWHERE = "nowhere"
    ONE_MICRO_BATCH = "with one micro-batch"
    ALONE = "on one process with one micro-batch"


@dataclass(frozen=True, kw_only=True)
class Habit:
    """A habit that a forward was seen to have, with a sentence for the user."""

    sentence: str
    tolerated: Tolerated


def habits(seen: Observed) -> Iterator[Habit]:
    """Yield what was seen, one sentence for each kind of habit."""
    for replacement, layers in _by_replacement(seen.draws):
        yield Habit(
            sentence=f"{_named(layers, seen.draws)} draws random numbers of its own in training, so that neither a "
            f"resumed run nor another number of processes would repeat them: {replacement}",
            tolerated=Tolerated.NOWHERE,
        )
    if seen.batch_norms:
        yield Habit(
            sentence=f"{_named(seen.batch_norms, seen.batch_norms)} normalises by the images of one process, so "
            f"that running statistics differ between processes: use {_BLOCKS}.norm.BatchNorm2d (with classes: "
            "ConditionalBatchNorm2d), whose statistics are those of all processes; it takes (N, C, H, W), and features "
            "(N, C) as x[..., None, None]",
            tolerated=Tolerated.ALONE,
        )
    if seen.power_iterations:
        yield Habit(
            sentence=f"{_named(seen.power_iterations, seen.power_iterations)} iterates in every forward, so that the "
            f"number of micro-batches changes the weights: use {_BLOCKS}.spectral.spectral_norm, which the game "
            "advances once per turn",
            tolerated=Tolerated.ONE_MICRO_BATCH,
        )
    if seen.changed:
        yield Habit(
            sentence=f"forward changes {_list(seen.changed)}, by the images of one process and once per micro-batch: "
            f"keep a moving mean in {_BLOCKS}.moving.MovingMean, which forward notes and the game moves (in a "
            "torch.nn.InstanceNorm: track_running_stats=False)",
            tolerated=Tolerated.ALONE,
        )


def _by_replacement(draws: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield what to write instead, and the layers it is for."""
    sorted_: dict[str, list[str]] = {}
    for layer, what in draws.items():
        sorted_.setdefault(_instead_of(what), []).append(layer)
    yield from sorted_.items()


def _instead_of(what: str) -> str:
    if what == "torch.nn.RReLU":
        return "use torch.nn.LeakyReLU"
    if what.startswith("torch.nn.FractionalMaxPool"):
        return "use torch.nn.MaxPool2d"
    if what in ("torch.nn.Dropout1d", "torch.nn.Dropout2d", "torch.nn.Dropout3d", "torch.nn.FeatureAlphaDropout"):
        return f"use {_BLOCKS}.dropout.Dropout with whole_channels=True, whose seeds come from the game"
    if "Dropout" in what or "bernoulli" in what or "dropout" in what:
        return f"use {_BLOCKS}.dropout.Dropout, whose seeds come from the game"
    return (
        "take them from the game, as keyword arguments of forward that a method stochastic(draw) returns "
        "(framework/networks/draw.py)"
    )


def _named(layers: Iterable[str], what: dict[str, str]) -> str:
    return _list([f"{layer} ({what[layer]})" if layer else f"forward ({what[layer]})" for layer in layers])


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The processes and micro-batches on which a recipe is about to be trained."""

    world: int
    micro_batches: int = 1
    cuts_more: bool = False
    """Whether the run may choose more micro-batches (`--auto-micro-batch`)."""
    on_cpu: bool = True

    def tolerates(self, where: Tolerated) -> bool:
        """Return whether a habit that is tolerated in such runs does no harm here."""
        whole = self.micro_batches == 1 and not self.cuts_more
        return where is not Tolerated.NOWHERE and whole and (where is Tolerated.ONE_MICRO_BATCH or self.world == 1)


def check_networks(recipe: Recipe, setting: Setting) -> list[str]:
    """Try all players and the losses.

    Returns:
        Sentences for the user about what works here but would not elsewhere, or could not be checked.

    Raises:
        RecipeError: something cannot work; the message has a sentence a line.
    """
    if not isinstance(recipe.game, Game):
        raise RecipeError(
            f"game={type(recipe.game).__name__}: no such game can be played; use Alternating(...), or derive a game of "
            "your own from framework.Game"
        )
    # All players at every resolution; what is refused at one is refused at once.
    checks = [_Player(recipe.game, recipe, player, setting) for player in recipe.players]
    for segment in dearest(recipe.segments()):
        for check in checks:
            check.segment(segment)
        refused = [sentence for check in checks for sentence in check.refused]
        if refused:
            raise RecipeError("\n".join(refused))
    # What works here, and the loss.
    notes = [sentence for check in checks for sentence in check.notes]
    share = largest_share(recipe.batch_size, micro_batches=setting.micro_batches, world=setting.world)
    terms = [term for turn in recipe.game.turns() for term in turn.terms]
    losses = dict.fromkeys(term.loss for term in terms if isinstance(term, Adversarial))
    return notes + [note for loss in losses for note in _loss_notes(loss, count=share)]


class _Player:
    """The check of one player.

    Attributes:
        refused: sentences about what cannot work, each once.
        notes: sentences about what works here but not elsewhere, each once.
    """

    def __init__(self, game: Game, recipe: Recipe, side: str, setting: Setting) -> None:
        self._game = game
        self._recipe, self._side, self._setting = recipe, side, setting
        self.refused: dict[str, None] = {}
        self.notes: dict[str, None] = {}
        network = shapes_only(recipe, side)
        self._networks = {META: network}
        self._name = type(network).__name__
        with self._refusing():
            _check_sizes(network)
            check_signature(network, game.arguments(side), sampled=side in game.averaged)

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Name the player in errors that are raised inside."""
        try:
            yield
        except FrameworkError as error:
            raise RecipeError(f"{self._side}.network: {error}") from None

    def segment(self, segment: Segment) -> None:
        """Try the player at one resolution."""
        share = largest_share(segment.batch_size, micro_batches=self._setting.micro_batches, world=self._setting.world)
        # Meta tensors cost nothing; some networks need numbers, and some as many samples as in training.
        attempts = [(META, share), (CPU, SAMPLES), *([(CPU, share)] if self._setting.on_cpu else [])]
        errors: list[Exception] = []
        for device, count in attempts:
            trial = self._tried(segment, device, count)
            if trial.error is None:
                self._judge_output(trial.output, segment, count)
                break
            errors.append(trial.error)
        else:
            self._judge_errors(errors)
        self._judge_habits(trial)

    def _tried(self, segment: Segment, device: torch.device, count: int) -> Trial:
        if device not in self._networks:
            self._networks[device] = built(self._recipe, self._side)
        network = self._networks[device]
        grow(network, resolution=segment.resolution, alpha=0.5 if segment.fading else 1.0)
        draw = draws_for(count, device=device)
        fields = example_fields(self._recipe, segment, draw)
        with self._refusing():
            return tried(network, *self._game.example(self._side, network, fields, draw), draw=draw)

    def _judge_output(self, output: object, segment: Segment, count: int) -> None:
        fields = example_fields(self._recipe, segment, draws_for(count, device=META))
        fault = self._game.output_fault(self._side, output, fields)
        if fault is not None:
            at = f" at {segment.resolution}x{segment.resolution}" if self._recipe.growth else ""
            self.refused[f"{self._side}.network: {self._name} returns {fault}{at}"] = None

    def _judge_habits(self, trial: Trial) -> None:
        for habit in habits(trial.seen):
            sentence = f"{self._side}.network: {self._name}: {habit.sentence}"
            if self._setting.tolerates(habit.tolerated):
                self.notes[f"{sentence}; this run does without, {habit.tolerated.value}"] = None
            else:
                self.refused[sentence] = None

    def _judge_errors(self, errors: list[Exception]) -> None:
        last = errors[-1]
        if self._setting.on_cpu and not needs_others(last):  # training would do the same
            self.refused[f"{self._side}.network: {self._name}.forward fails: {told(last)}"] = None
        else:
            self.notes[
                f"{self._side}.network was not checked: {self._name}.forward runs neither on meta tensors "
                f"({told(errors[0])}) nor on {SAMPLES} samples on the CPU ({told(last)})"
            ] = None


def _check_sizes(network: nn.Module) -> None:
    """Refuse layers that find their sizes in the first forward, because an engine would have nothing to train."""
    for name, parameter in network.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise FrameworkError(
                f"{name} has no size before the first forward (a lazy layer): give the layer its sizes"
            )


def _loss_notes(loss: AdversarialLoss, *, count: int) -> list[str]:
    """Try a loss on logits of `count` images.

    Raises:
        RecipeError: it does not return a scalar that depends on the logits.
    """
    name = type(loss).__name__
    for player in ("discriminator", "generator"):  # in the order of turns
        trial = _loss_trial(loss, player, count)
        if trial.error is not None:
            if needs_others(trial.error):
                return [
                    f"game.loss was not checked: {name}.{player} fails before there are processes: {told(trial.error)}"
                ]
            raise RecipeError(f"game.loss: {name}.{player} fails on {count} logits: {told(trial.error)}")
        value = trial.output
        if not isinstance(value, Tensor) or value.dim() != 0 or not value.requires_grad:
            what = (
                f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            )
            what += "" if not isinstance(value, Tensor) or value.requires_grad else " without a gradient"
            raise RecipeError(
                f"game.loss: {name}.{player} returns {what}: it must be a scalar, the mean over the logits"
            )
    return []


def _loss_trial(loss: AdversarialLoss, player: str, count: int) -> Trial:
    """Try a player's loss on meta logits (count,), or on zeros where it does not run on meta tensors."""

    def run(device: torch.device) -> object:
        real, fake = (torch.zeros(count, device=device, requires_grad=True) for _ in range(2))
        drawn = with_draws(loss, draws_for(count, device=device))
        if player == "discriminator":
            return drawn.discriminator(real, fake)
        return drawn.generator(fake, real if loss.needs_real_logits else None)

    trial = attempted(lambda: run(META))
    return trial if trial.error is None else attempted(lambda: run(CPU))
