"""What a game has at hand in one micro-batch of one turn: samples, random numbers, and the networks to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from framework.engines.base import Engine
from framework.games.augmentation import Augmenter
from framework.games.base import Turn
from framework.games.metrics import Metrics
from framework.games.microbatch import ImageDraws, MicroBatch
from framework.networks.blocks.norm import untracked_statistics
from framework.networks.draw import stochastic_inputs
from framework.objectives.equilibrium import Equilibrium
from framework.objectives.outputs import logits_of, mapped
from framework.objectives.terms import Discriminate, Memory, TermInputs
from framework.recipe.growth import Segment
from framework.recipe.recipe import Recipe
from framework.utils.errors import FrameworkError


def main_sample(fields: Mapping[str, Tensor]) -> Tensor:
    """Return the samples (n, ...) themselves: the first field that is not the label."""
    return next(value for name, value in fields.items() if name != "label")


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One micro-batch of one turn."""

    turn: Turn
    micro_batch: MicroBatch
    engines: Mapping[str, Engine]
    networks: Mapping[str, nn.Module]
    """The players' networks by name, as they are in this turn: frozen where the gradient flows through them."""
    recipe: Recipe
    """What is trained."""
    segment: Segment
    """The stretch of the clock that is played, with its factor on learning rates."""
    twins: dict[str, nn.Module]
    """Networks without memory of their own, filled in by `framework.games.look_ahead`."""
    helpers: Mapping[str, nn.Module]
    """Networks that are not trained, by name."""
    memory: Mapping[str, Memory]
    """What the players remember, by player."""
    images_seen: int
    """The clock: images seen before the turn."""
    classes: int
    """The number of classes of the data; 0 without."""
    equilibrium: Equilibrium | None
    """What the game's `equilibrium` returned."""
    augmenter: Augmenter
    metrics: Metrics
    """Where further metrics of the turn are added, with the weight of the micro-batch; see `score`."""
    lazy: bool = False
    """Whether this is an optimiser step of lazy terms alone, for which no logits are needed."""
    first: bool = False
    """Whether this is the turn's first micro-batch."""

    @property
    def fields(self) -> Mapping[str, Tensor]:
        """The real samples by field, each (n, ...) as networks take them; pictures in [-1, 1]."""
        return self.micro_batch.fields

    def field(self, name: str) -> Tensor:
        """Return one field (n, ...) of the real samples.

        Raises:
            FrameworkError: the data has no such field; lists those it has.
        """
        if name not in self.fields:
            raise FrameworkError(f"the data has no field {name!r}; it has {', '.join(self.fields)}")
        return self.fields[name]

    @property
    def sample(self) -> Tensor:
        """The real samples (n, ...) that a discriminator judges, see `main_sample`."""
        return main_sample(self.fields)

    @property
    def labels(self) -> Tensor | None:
        """The classes (n,) of the real samples, the field `label`; None without classes."""
        return self.fields.get("label")

    @property
    def draw(self) -> ImageDraws:
        """The random numbers of the turn, for the samples of the micro-batch."""
        return self.micro_batch.draw

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type in which losses are computed."""
        return self.draw.dtype

    def autocast(self, player: str) -> AbstractContextManager[object]:
        """Return the autocast context of a player's forward passes."""
        return self.engines[player].autocast()

    def run(self, player: str, *inputs: Tensor | None, graph: bool = True, tracked: bool = True) -> Any:
        """Run a player's network in its precision, with its own random numbers; return what it returns.

        Args:
            player: name of the player.
            inputs: what its forward takes, such as latents (n, z_dim) and labels (n,).
            graph: whether gradients flow through it; otherwise its output has the type of losses, and no graph.
            tracked: whether running statistics of batch norms follow this pass.
        """
        network = self.networks[player]
        given = stochastic_inputs(network, self.draw)
        with nullcontext() if tracked else untracked_statistics(network):
            if graph:
                with self.autocast(player):
                    return network(*inputs, **given)
            with torch.no_grad(), self.autocast(player):
                output = network(*inputs, **given)
        return self.widened(output)

    def widened(self, output: Any) -> Any:
        """Return what a network returned with every floating-point tensor in the type of losses."""
        return mapped(output, lambda tensor: tensor.to(self.dtype) if tensor.is_floating_point() else tensor)

    def discriminators(self, player: str = "discriminator") -> Callable[[str], Discriminate]:
        """Return the discriminator behind the augmentation, by the name of the draws that a call has.

        All calls of one name, such as "real" or "fake", share their draws. It returns what the network returns.
        """
        return self.augmenter.through(self.networks[player], images_seen=self.images_seen, draw=self.draw)

    def inputs(self, discriminate: Discriminate, **tensors: Any) -> TermInputs:
        """Return the inputs of this turn's terms.

        Args:
            discriminate: the discriminator as penalties use it.
            tensors: further fields of `TermInputs`.
        """
        return TermInputs(
            network=self.engines[self.turn.player].network,
            discriminate=lambda samples, condition: logits_of(discriminate(samples, condition)),
            draw=self.draw.under("penalty"),
            memory=self.memory[self.turn.player],
            images_seen=self.images_seen,
            player=self.turn.player,
            rows=self.micro_batch.rows,
            helpers=self.helpers,
            **tensors,
        )

    def again(self, number: int) -> Forward:
        """Return the same micro-batch with further draws, told apart by a number."""
        micro_batch = replace(self.micro_batch, draw=self.draw.under(f"again/{number}"))
        return replace(self, micro_batch=micro_batch)

    def score(self, name: str, value: Tensor | float) -> None:
        """Add a metric of this micro-batch, a mean over its samples, a scalar ()."""
        self.metrics.add(name, value, weight=self.micro_batch.weight)
