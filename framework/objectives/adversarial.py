"""Adversarial losses: pure functions of logits, paired into one object per game.

Logits (N,) are larger for real samples; the logit of an undecided discriminator is part of a loss's `equilibrium`.
Every loss is a mean over the samples given, so the losses of parts of a batch are averaged with the parts' shares as
weights. Half-precision logits are widened first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor
from torch.nn import functional

from framework.networks.blocks.precision import at_least_fp32
from framework.networks.draw import Draw
from framework.objectives.equilibrium import Equilibrium
from framework.utils.errors import FrameworkError


class AdversarialLoss(Protocol):
    """The interface of an adversarial loss.

    A loss may also have a property `equilibrium: Equilibrium`, which is the reference point of the sentinels and of
    ADA; see `framework.objectives.equilibrium.equilibrium_of` for losses without it.
    """

    needs_real_logits: ClassVar[bool]
    """Whether the generator's loss compares with the logits of real images."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        ...

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,); `real_logits` are needed if `needs_real_logits`."""
        ...


@runtime_checkable
class StochasticLoss(AdversarialLoss, Protocol):
    """An adversarial loss with random numbers of its own, such as random targets; see `SoftLabels`.

    Its own `discriminator` and `generator` draw nothing: they are what it is on average.
    """

    def drawn(self, draw: Draw) -> AdversarialLoss:
        """Return the loss with the random numbers of one micro-batch of one turn.

        Args:
            draw: the random numbers of its N samples, functions of the clock and of each sample's place.
        """
        ...


def with_draws(loss: AdversarialLoss, draw: Draw) -> AdversarialLoss:
    """Return a loss with the random numbers of a micro-batch where it is a `StochasticLoss`, others as they are."""
    return loss.drawn(draw) if isinstance(loss, StochasticLoss) else loss


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """Hinge loss (Lim & Ye, arXiv:1705.02894; SAGAN eq. 4).

    D: `E[max(0, 1 - real)] + E[max(0, 1 + fake)]`, G: `-E[fake]`.
    """

    needs_real_logits: ClassVar[bool] = False

    @property
    def equilibrium(self) -> Equilibrium:
        """The undecided logit is 0, the centre of [-1, 1], where `max(0, 1 - t) + max(0, 1 + t)` has its minimum, 2."""
        return Equilibrium.at(self, logit=0.0)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return (
            functional.relu(1 - at_least_fp32(real_logits)).mean()
            + functional.relu(1 + at_least_fp32(fake_logits)).mean()
        )

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated samples; `real_logits` are ignored."""
        return -at_least_fp32(fake_logits).mean()


@dataclass(frozen=True, kw_only=True)
class NonSaturating:
    """Logistic loss with the non-saturating generator (Goodfellow et al., arXiv:1406.2661, section 3).

    D: `-E[log s(real)] - E[log(1 - s(fake))]`, G: `-E[log s(fake)]`, where s is the sigmoid.
    """

    needs_real_logits: ClassVar[bool] = False

    @property
    def equilibrium(self) -> Equilibrium:
        """The undecided logit is 0, the loss 2 log 2: the best discriminator has `s(t) = p / (p + q)` (prop. 1)."""
        return Equilibrium.at(self, logit=0.0)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return _cross_entropy(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated samples; `real_logits` are ignored."""
        return functional.softplus(-at_least_fp32(fake_logits)).mean()


@dataclass(frozen=True, kw_only=True)
class Minimax:
    """The original zero-sum loss (Goodfellow et al., arXiv:1406.2661, eq. 1).

    D: as in `NonSaturating`, G: `E[log(1 - s(fake))]`, whose gradient vanishes while D wins.
    """

    needs_real_logits: ClassVar[bool] = False

    @property
    def equilibrium(self) -> Equilibrium:
        """The undecided logit is 0, the loss 2 log 2, as for `NonSaturating`, which has the same discriminator."""
        return Equilibrium.at(self, logit=0.0)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return _cross_entropy(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated samples; `real_logits` are ignored."""
        return -functional.softplus(at_least_fp32(fake_logits)).mean()


@dataclass(frozen=True, kw_only=True)
class MaximumLikelihood:
    """Logistic loss with a maximum likelihood generator (Goodfellow, arXiv:1701.00160, section 3.2.4).

    D: as in `NonSaturating`, G: `-E[exp(fake)]`, which is `-E[D / (1 - D)]` with `D = s(fake)`; the paper has half.
    With the best discriminator its gradient is that of `KL(data, generated)`. The few samples that are taken for real
    dominate it, so it wants a small learning rate or `clip_norm`; in fp32 it overflows at a logit of 88, and such a
    step is skipped.
    """

    needs_real_logits: ClassVar[bool] = False

    @property
    def equilibrium(self) -> Equilibrium:
        """The undecided logit is 0, the loss 2 log 2, as for `NonSaturating`, which has the same discriminator."""
        return Equilibrium.at(self, logit=0.0)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return _cross_entropy(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated samples; `real_logits` are ignored."""
        return -at_least_fp32(fake_logits).exp().mean()


@dataclass(frozen=True, kw_only=True)
class Wasserstein:
    """Kantorovich dual of the Wasserstein-1 distance (Arjovsky et al., arXiv:1701.07875, eq. 3).

    D: `E[fake] - E[real]`, G: `-E[fake]`. The critic must be kept Lipschitz, e.g. by `GradientPenalty`.
    """

    needs_real_logits: ClassVar[bool] = False

    @property
    def equilibrium(self) -> Equilibrium:
        """The loss is `t - t` = 0 at any logit, as a constant may be added to a critic; it has no lower bound."""
        return Equilibrium(logit=None, discriminator_loss=0.0, lowest_discriminator_loss=-math.inf)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return at_least_fp32(fake_logits).mean() - at_least_fp32(real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated samples; `real_logits` are ignored."""
        return -at_least_fp32(fake_logits).mean()


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """Least-squares loss with the paper's factor 1/2 (Mao et al., arXiv:1611.04076, eq. 2).

    D: `E[(real - b)^2] / 2 + E[(fake - a)^2] / 2`, G: `E[(fake - c)^2] / 2`, with b = `real_target`,
    a = `fake_target`, c = `generator_target`.

    Raises:
        FrameworkError: a target is not finite, or `real_target` is not above `fake_target`.
    """

    real_target: float = 1.0
    """b: the discriminator's target for real samples."""
    fake_target: float = 0.0
    """a: the discriminator's target for generated samples."""
    generator_target: float = 1.0
    """c: the generator's target for generated samples."""

    needs_real_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        targets = (self.fake_target, self.real_target, self.generator_target)
        if not (all(map(math.isfinite, targets)) and self.fake_target < self.real_target):
            raise FrameworkError(
                f"LeastSquares: fake_target={self.fake_target} and real_target={self.real_target}, with "
                f"generator_target={self.generator_target}, must be finite numbers, the second above the first"
            )

    @property
    def equilibrium(self) -> Equilibrium:
        """The undecided logit is (a + b) / 2: the best discriminator is `(b p + a q) / (p + q)` (section 3.2).

        The loss there is (b - a)^2 / 4.
        """
        return Equilibrium.at(self, logit=0.5 * (self.real_target + self.fake_target))

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        real, fake = at_least_fp32(real_logits), at_least_fp32(fake_logits)
        return 0.5 * ((real - self.real_target).square().mean() + (fake - self.fake_target).square().mean())

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated samples; `real_logits` are ignored."""
        return 0.5 * (at_least_fp32(fake_logits) - self.generator_target).square().mean()


def _cross_entropy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return `-E[log s(real)] - E[log(1 - s(fake))]`, a scalar, for logits (N,)."""
    return (
        functional.softplus(-at_least_fp32(real_logits)).mean() + functional.softplus(at_least_fp32(fake_logits)).mean()
    )
