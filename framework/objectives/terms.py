"""Terms: what a player minimises in its turn, as weighted functions of the tensors of one micro-batch.

An adversarial loss is a term, a penalty is one, a distance between pictures is one. A term is pure arithmetic: what it
remembers between turns stands in a memory that checkpoints hold, and its random numbers are functions of the clock.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from framework.networks.draw import Draw
from framework.recipe.schedules import Ramp, value_at, values_of
from framework.utils.aliases import first_class_name
from framework.utils.errors import FrameworkError

Discriminate = Callable[[Tensor, Tensor | None], Tensor]
"""A function from samples (N, ...), commonly images (N, C, H, W), and labels (N,), another condition (N, ...) or None
to logits (N,), or (N, ...) for a discriminator of patches."""

Memory = dict[str, Tensor]
"""What a player's terms remember, by name, the same on every process: float64 scalars, or tensors of any shape (a pool
of earlier images). Entries are replaced, never written in place, so that a step that does not count can be undone."""

PLAYER_LETTERS = {"generator": "G", "discriminator": "D"}
"""The usual letters of the usual players in the names of metrics; other players go by their own names."""


def letter_of(player: str) -> str:
    """Return how the names of metrics call a player: `G`, `D`, or its name."""
    return PLAYER_LETTERS.get(player, player)


@dataclass(frozen=True, kw_only=True, eq=False)
class TermInputs:
    """The inputs of a turn's terms: samples, conditions and what networks returned for one micro-batch.

    Samples have any shape (N, ...): images (N, C, H, W), points (N, D), numbers (N,). Lazy terms with an optimiser step
    of their own get no logits. A field is None if the turn does not have it.
    """

    network: nn.Module
    """The raw network whose turn it is."""
    discriminate: Discriminate
    """The discriminator as the game uses it: behind its augmentation, if there is one."""
    draw: Draw
    """Random numbers for each sample; a function of the clock, without a state."""
    memory: Memory = field(default_factory=dict)
    """What the player's terms remember from turn to turn."""
    images_seen: int = 0
    """The clock: images seen before the turn."""
    player: str = "discriminator"
    """The name of the player whose turn it is."""
    z: Tensor | None = None
    """Latents (N, z_dim) of the generated samples, as the generator was given them."""
    rows: Tensor | None = None
    """Places of the samples in the global batch, (N,) int64 on the CPU."""
    real: Tensor | None = None
    """Real samples (N, ...)."""
    fake: Tensor | None = None
    """Generated samples (N, ...), detached in the discriminator's turn."""
    labels: Tensor | None = None
    """Labels of the real samples, (N,) int64, or another condition (N, ...)."""
    fake_labels: Tensor | None = None
    """Labels of the generated samples, (N,) int64, or another condition (N, ...)."""
    real_logits: Tensor | None = None
    """Logits of the real samples, (N,) or, of patches, (N, ...)."""
    fake_logits: Tensor | None = None
    """Logits of the generated samples, (N,) or, of patches, (N, ...)."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """Further tensors (N, ...) of the turn by name: the fields of the real samples, and the latents."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What networks returned, by name, where that is more than a tensor: `real` and `fake` are the discriminator's."""
    helpers: Mapping[str, nn.Module] = field(default_factory=dict)
    """Networks that are not trained, by name; see `framework.recipe.Helper`."""
    again: Callable[[int], Tensor] | None = None
    """A function that generates other samples (N, ...) for the same conditions, from the further draws of a number; in
    the discriminator's turn without a graph."""

    def generated_again(self, number: int) -> Tensor:
        """Return other generated samples (N, ...) for the same conditions; see `again`.

        Args:
            number: of the further draws, from 0.

        Raises:
            FrameworkError: the game of this turn does not generate again.
        """
        if self.again is None:
            raise FrameworkError(f"the {self.player}'s turn of this game does not generate samples a second time")
        return self.again(number)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor (N, ...) of a name: `real`, `fake`, a field, a latent.

        Raises:
            FrameworkError: the turn has no such tensor; lists those it has.
        """
        own = {"real": self.real, "fake": self.fake, "z": self.z}
        known = {**self.tensors, **{key: value for key, value in own.items() if value is not None}}
        if name not in known:
            raise FrameworkError(
                f"the {self.player}'s turn has no tensor {name!r}; it has {', '.join(sorted(known)) or 'none'}"
            )
        return known[name]


@dataclass(frozen=True, kw_only=True)
class Term(ABC):
    """The base of terms: a weighted part of the loss of a player's turn.

    Raises:
        FrameworkError: `weight` is negative or not finite, or `every` is below 1.
    """

    weight: float | Ramp
    """A constant or a function of the clock."""
    every: int = 1
    """Turns from one use to the next; the weight is multiplied by it, so the average strength stays the same."""

    needs_second_derivative: ClassVar[bool] = False
    """Whether the term contains a gradient, so that its own gradient is a second derivative."""
    needs_parameters: ClassVar[bool] = False
    """Whether it reads parameters outside the network's forward."""
    needs_mismatched: ClassVar[tuple[str, ...]] = ()
    """Fields that it needs of other samples, too: it finds `label` of the next one as `label_mismatched`."""
    players: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    """The players in whose turns it may be used."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not all(math.isfinite(weight) and weight >= 0 for weight in values_of(self.weight)):
            raise FrameworkError(f"{name}: weight={self.weight} must be finite and at least 0")
        if self.every < 1:
            raise FrameworkError(f"{name}: every={self.every} must be at least 1 turn")

    @property
    def name(self) -> str:
        """The name in metrics: that of the class; a renamed class keeps it, for the sake of curves begun."""
        return first_class_name(type(self).__name__)

    @property
    def needs_real_output(self) -> bool:
        """Whether it needs what the discriminator returns for real samples in the generator's turn, too; False."""
        return False

    def due(self, turn: int) -> bool:
        """Return whether the term is computed in this turn, counted from 0."""
        return turn % self.every == 0

    def weighted(self, value: Tensor, *, images_seen: int) -> Tensor:
        """Return what is added to the loss on a turn on which the term is due, `weight * every * value`, a scalar."""
        return value_at(self.weight, images_seen) * self.every * value

    def __call__(self, inputs: TermInputs) -> Tensor:
        """Return the loss to add on a turn on which the term is due, a scalar; see `weighted`."""
        return self.weighted(self.value(inputs), images_seen=inputs.images_seen)

    def metrics(self, value: Tensor, weighted: Tensor, *, player: str) -> dict[str, Tensor]:
        """Return what is logged of a micro-batch, by name: the value as it is, and with its weight.

        Args:
            value: what `value` returned, a scalar.
            weighted: what `weighted` returned, a scalar.
            player: the player whose turn it is.
        """
        return {f"term/{self.name}": value, f"term/{self.name}_weighted": weighted / self.every}

    def further_metrics(self, inputs: TermInputs) -> dict[str, Tensor]:
        """Return what else is logged of a micro-batch, by name, each a mean over its samples; nothing by default.

        It is asked for after `value`, in every turn in which that is computed. Names are those that MLflow takes.
        """
        return {}

    @abstractmethod
    def value(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted term of a micro-batch, a mean over its samples, a scalar.

        Raises:
            FrameworkError: the turn does not have a tensor that the term needs.
        """

    def _given(self, tensor: Tensor | None, what: str) -> Tensor:
        """Return the tensor, or raise a FrameworkError which says that `what` is missing."""
        if tensor is None:
            raise FrameworkError(f"{type(self).__name__} needs {what}, which this player's turn does not have")
        return tensor
