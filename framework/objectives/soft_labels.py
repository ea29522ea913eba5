"""Cross-entropy with other labels than 1 and 0: smoothed, drawn from an interval, or flipped now and then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from framework.networks.blocks.precision import at_least_fp32
from framework.networks.draw import Draw
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.equilibrium import Equilibrium
from framework.recipe.checks import check_fields
from framework.utils.errors import FrameworkError
from framework.utils.ranges import Range

Interval = tuple[float, float]
"""The smallest and the largest target; equal ones are not random."""


@dataclass(frozen=True, kw_only=True)
class SoftLabels:
    """Logistic loss with soft targets y: `-E[y log s(logit) + (1 - y) log(1 - s(logit))]`, where s is the sigmoid.

    The default is one-sided label smoothing with the real target 0.9 (Salimans et al., arXiv:1606.03498, section 3.4).
    Targets between the ends of an interval are drawn for each sample and turn; all patches of a sample share one.
    ganhacks advises `real=(0.7, 1.2), fake=(0.0, 0.3)`, and to flip some labels. The program of Social GAN has
    `real=(0.7, 1.2), fake=(0.0, 0.0), generated=(0.7, 1.2)`, with one target for a batch, not one for each sample.

    Raises:
        RecipeError: a field of another type than it is declared with.
        FrameworkError: an interval whose ends are in the wrong order, a mean real target that is not above the mean
            fake one, or means whose mean is not between 0 and 1, because no logit would be the undecided one.
    """

    real: Interval = (0.9, 0.9)
    """The discriminator's targets for real samples."""
    fake: Interval = (0.0, 0.0)
    """The discriminator's targets for generated samples."""
    flipped: Annotated[float, Range(least=0, below=0.5)] = 0.0
    """The probability that the discriminator's target of a sample is drawn from the other side's interval."""
    generator_loss: Literal["non_saturating", "minimax"] = "non_saturating"
    """What the generator minimises, whatever the discriminator's targets are: cross-entropy with the targets
    `generated`, or `E[log(1 - s(fake))]` as in `Minimax`."""
    generated: Interval = (1.0, 1.0)
    """The generator's targets for its samples, where its loss is non-saturating."""

    needs_real_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("real", "fake", "generated"):
            low, high = getattr(self, name)
            if not low <= high:
                raise FrameworkError(f"SoftLabels: {name}=({low}, {high}) must begin with its smallest target")
        real, fake = _mean(self.real), _mean(self.fake)
        if not (fake < real and 0 < (real + fake) / 2 < 1):
            raise FrameworkError(
                f"SoftLabels: the mean targets, {real:g} of real and {fake:g} of generated samples, must be apart, the "
                "first above the second, and on average between 0 and 1"
            )

    @property
    def equilibrium(self) -> Equilibrium:
        """The undecided logit has `s(t) = m`, the mean of both sides' mean targets y, and the loss there is 2 H(m).

        It minimises `2 log(1 + e^t) - 2 m t`; H is the entropy `-m log m - (1 - m) log(1 - m)`. Flips change neither.
        The lowest loss is the sum of H(y) of both sides, found at `s(logit) = y`, and there is none if a y lies outside
        [0, 1].
        """
        real, fake = self._mean_targets()
        middle = (real + fake) / 2
        return Equilibrium(
            logit=math.log(middle / (1 - middle)),
            discriminator_loss=2 * _entropy(middle),
            lowest_discriminator_loss=_entropy(real) + _entropy(fake),
        )

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss with the mean targets, a scalar, for logits (N,) or, of patches, (N, ...)."""
        real, fake = self._mean_targets()
        return _cross_entropy(real_logits, real) + _cross_entropy(fake_logits, fake)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss with the mean target, a scalar, for logits (N, ...) of generated samples."""
        if self.generator_loss == "minimax":
            return -functional.softplus(at_least_fp32(fake_logits)).mean()
        return _cross_entropy(fake_logits, _mean(self.generated))

    def drawn(self, draw: Draw) -> AdversarialLoss:
        """Return the loss with targets drawn for the N samples of a micro-batch; itself where nothing is random."""
        ends = (self.real, self.fake, self.generated)
        fixed = self.flipped == 0 and all(low == high for low, high in ends)
        return self if fixed else _DrawnLabels(labels=self, draw=draw)

    def _mean_targets(self) -> tuple[float, float]:
        """Return the discriminator's mean targets of real and of generated samples, flips included."""
        real, fake = _mean(self.real), _mean(self.fake)
        return real + self.flipped * (fake - real), fake + self.flipped * (real - fake)


@dataclass(frozen=True, kw_only=True, eq=False)
class _DrawnLabels:
    """`SoftLabels` with the targets of one micro-batch."""

    labels: SoftLabels
    draw: Draw

    needs_real_logits: ClassVar[bool] = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) or, of patches, (N, ...)."""
        real, fake = self.labels.real, self.labels.fake
        return _cross_entropy(real_logits, self._targets("real", real, other=fake)) + _cross_entropy(
            fake_logits, self._targets("fake", fake, other=real)
        )

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N, ...) of generated samples."""
        if self.labels.generator_loss == "minimax":
            return self.labels.generator(fake_logits)
        return _cross_entropy(fake_logits, self._between("generated", self.labels.generated))

    def _targets(self, side: str, own: Interval, *, other: Interval) -> float | Tensor:
        """Return the targets (N,) of one side, some of them flipped, or the one target of all samples."""
        targets = self._between(side, own)
        if self.labels.flipped == 0:
            return targets
        chances = self.draw.uniform(f"soft_labels/{side}/flips")
        flips = (chances < self.labels.flipped).to(chances.dtype)
        return targets + flips * (self._between(f"{side}/flipped", other) - targets)

    def _between(self, name: str, interval: Interval) -> float | Tensor:
        """Return targets (N,), uniform between the ends of an interval, or both ends where they are the same."""
        low, high = interval
        return low if low == high else low + (high - low) * self.draw.uniform(f"soft_labels/{name}")


def _cross_entropy(logits: Tensor, target: float | Tensor) -> Tensor:
    """Return the mean cross-entropy, a scalar, of logits (N, ...) with one target, or with targets (N,).

    Raises:
        FrameworkError: there are not as many targets as rows of logits; broadcasting would mix samples.
    """
    wide = at_least_fp32(logits)
    if isinstance(target, Tensor):
        if len(target) != len(wide):
            raise FrameworkError(
                f"SoftLabels draws {len(target)} targets, one for each sample, but the discriminator returned "
                f"{len(wide)} rows of logits"
            )
        target = target.view(-1, *(1 for _ in wide.shape[1:]))
    # Two softplus instead of one less `target * logit`: nothing cancels where the logit is large.
    return (target * functional.softplus(-wide) + (1 - target) * functional.softplus(wide)).mean()


def _mean(interval: Interval) -> float:
    return (interval[0] + interval[1]) / 2


def _entropy(target: float) -> float:
    """Return the least cross-entropy with a target: that of a coin, or minus infinity for a target outside [0, 1]."""
    if not 0 <= target <= 1:
        return -math.inf
    return -sum(share * math.log(share) for share in (target, 1 - target) if share > 0)
