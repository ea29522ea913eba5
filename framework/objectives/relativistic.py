"""Relativistic losses: a logit counts only in comparison with those of the other side.

The sources are Jolicoeur-Martineau, arXiv:1807.00734 (pairs, averages) and arXiv:1901.02474 (all kinds). Both players'
losses need the logits of real images.

Each has a function f(t), its `kind`: `log(1 + exp(-t))` (`logistic`), `(t - 1)^2` (`least_squares`) or
`max(0, 1 - t)` (`hinge`). The author's two programs weigh the same losses differently, and learning rates and penalties
of a published setting belong to one of them: a `convention` says which. A program that a loss does not offer weighs it
as the paper does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from framework.networks.blocks.precision import at_least_fp32
from framework.objectives.equilibrium import Equilibrium
from framework.recipe.checks import ADDED_LATER, check_fields
from framework.runtime.collectives import sum_over_processes

Kind = Literal["logistic", "least_squares", "hinge"]


@dataclass(frozen=True, kw_only=True)
class RelativisticPairing:
    """A loss of the difference within pairs of a real and a generated image (RpGAN).

    D: `E[f(real - fake)]`, G: `E[f(fake - real)]` (arXiv:1807.00734, section 3.1; logistic: RSGAN, arXiv:2501.05441,
    eq. 2). Row i of the real batch is paired with row i of the generated one, so with classes they must have the same
    labels: `Alternating(fake_labels="real")`.

    Raises:
        RecipeError: `kind` or `convention` is unknown.
    """

    kind: Kind = field(default="logistic", metadata=ADDED_LATER)
    """The function f."""
    convention: Literal["paper", "relativistic_f_divergences"] = field(default="paper", metadata=ADDED_LATER)
    """The weights of the losses: as above, or the discriminator's doubled and the generator's not, as in the program of
    arXiv:1901.02474."""

    needs_real_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def equilibrium(self) -> Equilibrium:
        """The loss is f(0) (log 2, 1 or 1), or twice that, at any logit, because equal samples have equal logits."""
        return Equilibrium(logit=None, discriminator_loss=self._weight * _at_zero(self.kind))

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        difference = at_least_fp32(real_logits) - at_least_fp32(fake_logits)
        return self._weight * _KINDS[self.kind](difference).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated and real samples, both needed."""
        return _KINDS[self.kind](at_least_fp32(fake_logits) - _given(real_logits)).mean()

    @property
    def _weight(self) -> float:
        return 1.0 if self.convention == "paper" else 2.0


@dataclass(frozen=True, kw_only=True)
class RelativisticAverage:
    """A loss of the difference from the other side's mean logit (arXiv:1807.00734, section 3.3).

    With `a = real - E[fake]` and `b = fake - E[real]`, D minimises `E[f(a)] + E[f(-b)]` and G `E[f(-a)] + E[f(b)]`
    (RaSGAN, RaLSGAN, RaHingeGAN). Like batch norm's, the means are taken over one micro-batch of all processes.

    Raises:
        RecipeError: `kind` or `convention` is unknown.
    """

    kind: Kind = "logistic"
    """The function f."""
    convention: Literal["paper", "relativistic_gan"] = field(default="paper", metadata=ADDED_LATER)
    """The weights of the losses: as above, or both players' halved, as in the program of arXiv:1807.00734."""

    needs_real_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def equilibrium(self) -> Equilibrium:
        """The loss is 2 f(0) (2 log 2, 2 or 2), or half of it, at any logit: both differences of a constant are 0."""
        return Equilibrium(logit=None, discriminator_loss=self._weight * 2 * _at_zero(self.kind))

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return self._loss(at_least_fp32(real_logits), at_least_fp32(fake_logits))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated and real samples, both needed."""
        return self._loss(at_least_fp32(fake_logits), _given(real_logits))

    def _loss(self, raised: Tensor, lowered: Tensor) -> Tensor:
        """Return a scalar, small if `raised` (N,) is above the mean of `lowered` (N,), and `lowered` below its mean."""
        distance = _KINDS[self.kind]
        raised_mean, lowered_mean = _global_mean(raised), _global_mean(lowered)
        return self._weight * (distance(raised - lowered_mean).mean() + distance(raised_mean - lowered).mean())

    @property
    def _weight(self) -> float:
        return 1.0 if self.convention == "paper" else 0.5


@dataclass(frozen=True, kw_only=True)
class RelativisticCentered:
    """A loss of the difference from the mean logit of both sides together (RcGAN, arXiv:1901.02474).

    With `c = (E[real] + E[fake]) / 2`, D minimises `E[f(real - c)] + E[f(c - fake)]` and G `E[f(fake - c)] +
    E[f(c - real)]`. Like batch norm's, the means are taken over one micro-batch of all processes.

    Raises:
        RecipeError: `kind` is unknown.
    """

    kind: Kind = "logistic"
    """The function f."""

    needs_real_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def equilibrium(self) -> Equilibrium:
        """The loss is 2 f(0) (2 log 2, 2 or 2) at any logit, because a constant lies at its own centre."""
        return Equilibrium(logit=None, discriminator_loss=2 * _at_zero(self.kind))

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return self._loss(at_least_fp32(real_logits), at_least_fp32(fake_logits))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated and real samples, both needed."""
        return self._loss(at_least_fp32(fake_logits), _given(real_logits))

    def _loss(self, raised: Tensor, lowered: Tensor) -> Tensor:
        """Return a scalar, small if `raised` (N,) is above the centre of both, and `lowered` (N,) below it."""
        distance = _KINDS[self.kind]
        center = (_global_mean(raised) + _global_mean(lowered)) / 2
        return distance(raised - center).mean() + distance(center - lowered).mean()


_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "logistic": lambda t: functional.softplus(-t),
    "least_squares": lambda t: (t - 1).square(),
    "hinge": lambda t: functional.relu(1 - t),
}


def _at_zero(kind: Kind) -> float:
    """Return f(0)."""
    return float(_KINDS[kind](torch.zeros(())))


def _global_mean(logits: Tensor) -> Tensor:
    """Return the mean of the logits of all processes, whose numbers may differ, as a differentiable scalar."""
    count = logits.new_full((), logits.numel())
    total, number = sum_over_processes(torch.stack([logits.sum(), count])).unbind()
    return total / number


def _given(real_logits: Tensor | None) -> Tensor:
    """Return the widened logits of real images, which the game must have passed."""
    assert real_logits is not None, "the game did not pass the logits of real images"
    return at_least_fp32(real_logits)
