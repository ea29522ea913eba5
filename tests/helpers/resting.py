"""Games at rest: losses that users write, and a discriminator that answers everything with one logit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from framework import Adam, Alternating, Network, Player
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.equilibrium import Equilibrium
from tests.helpers.play import Played, smooth_recipe, start


@dataclass(frozen=True, kw_only=True)
class KullbackLeibler:
    """The f-GAN of the Kullback-Leibler divergence (Nowozin et al., arXiv:1606.00709, equation 4 and table 1).

    `KL(p, q) = max over T of E_p[T] - E_q[f*(T)]` with `f*(t) = exp(t - 1)`, found at `T = 1 + log(p / q)`.
    D: `-E[real] + E[exp(fake - 1)]`, G: `-E[exp(fake - 1)]`.
    """

    needs_real_logits: ClassVar[bool] = False

    @property
    def equilibrium(self) -> Equilibrium:
        """T = 1 where p = q, and the divergence is 0; it has no upper bound."""
        return Equilibrium.at(self, logit=1.0, lowest_discriminator_loss=-math.inf)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The discriminator's loss, a scalar."""
        return (fake_logits - 1).exp().mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """The generator's loss, a scalar."""
        return -(fake_logits - 1).exp().mean()


@dataclass(frozen=True, kw_only=True)
class TakenForZero(KullbackLeibler):
    """The same judged as if its discriminator were undecided at 0, as every loss was once."""

    @property
    def equilibrium(self) -> Equilibrium:
        """The logit 0, which is wrong."""
        return Equilibrium.at(self, logit=0.0)


@dataclass(frozen=True, kw_only=True)
class Unstated(KullbackLeibler):
    """The same without a word about its equilibrium, as before losses could state one."""

    equilibrium: ClassVar[None] = None


class Constant(nn.Module):
    """(N, ...) -> (N,): one logit for every sample."""

    def __init__(self, *, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor([logit]))

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.logit + 0.0 * samples.flatten(1).sum(1)


def constant(loss: AdversarialLoss, *, logit: float, **rules: object) -> Played:
    """A game of this loss with the discriminator `Constant`."""
    discriminator = Player(network=Network(Constant, logit=logit), optimizer=Adam(lr=1e-3))
    game = Alternating(loss=loss, **rules)
    return start(replace(smooth_recipe(game=game), discriminator=discriminator))
