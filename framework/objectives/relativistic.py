"""Relativistic losses: a logit counts only in comparison with those of the other side.

The source is Jolicoeur-Martineau, arXiv:1807.00734. Both players' losses need the logits of real images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from framework.networks.blocks.precision import at_least_fp32
from framework.objectives.equilibrium import Equilibrium
from framework.runtime.collectives import sum_over_processes
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class RelativisticPairing:
    """Logistic loss of the difference within pairs of a real and a generated image (RpGAN).

    D: `E[-log s(real - fake)]`, G: `E[-log s(fake - real)]`, where s is the sigmoid (arXiv:1807.00734, section 3.1;
    arXiv:2501.05441, eq. 2). Row i of the real batch is paired with row i of the generated one, so with classes they
    must have the same labels: `Alternating(fake_labels="real")`.
    """

    needs_real_logits: ClassVar[bool] = True

    @property
    def equilibrium(self) -> Equilibrium:
        """The loss is log 2 at any logit, because equal samples have equal logits."""
        return Equilibrium(logit=None, discriminator_loss=float(functional.softplus(torch.zeros(()))))

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return functional.softplus(at_least_fp32(fake_logits) - at_least_fp32(real_logits)).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated and real samples, both needed."""
        return functional.softplus(_given(real_logits) - at_least_fp32(fake_logits)).mean()


@dataclass(frozen=True, kw_only=True)
class RelativisticAverage:
    """A loss of the difference from the other side's mean logit (arXiv:1807.00734, section 3.3).

    With `a = real - E[fake]` and `b = fake - E[real]`, D minimises `E[f(a)] + E[f(-b)]` and G `E[f(-a)] + E[f(b)]`.
    f(t) is `log(1 + exp(-t))` (`logistic`: RaSGAN), `(t - 1)^2` (`least_squares`: RaLSGAN) or `max(0, 1 - t)` (`hinge`:
    RaHingeGAN). Like batch norm's, the means are taken over one micro-batch of all processes.

    Raises:
        FrameworkError: `kind` is unknown.
    """

    kind: Literal["logistic", "least_squares", "hinge"] = "logistic"
    """The function f."""

    needs_real_logits: ClassVar[bool] = True

    @property
    def equilibrium(self) -> Equilibrium:
        """The loss is 2 f(0) (2 log 2, 2 or 2) at any logit, because both differences of a constant are 0."""
        return Equilibrium(logit=None, discriminator_loss=2 * float(_AVERAGED[self.kind](torch.zeros(()))))

    def __post_init__(self) -> None:
        if self.kind not in _AVERAGED:
            raise FrameworkError(f"RelativisticAverage: kind={self.kind!r} must be one of: {', '.join(_AVERAGED)}")

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        return self._loss(at_least_fp32(real_logits), at_least_fp32(fake_logits))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for logits (N,) of generated and real samples, both needed."""
        return self._loss(at_least_fp32(fake_logits), _given(real_logits))

    def _loss(self, raised: Tensor, lowered: Tensor) -> Tensor:
        """Return a scalar, small if `raised` (N,) is above the mean of `lowered` (N,), and `lowered` below its mean."""
        distance = _AVERAGED[self.kind]
        raised_mean, lowered_mean = _global_mean(raised), _global_mean(lowered)
        return distance(raised - lowered_mean).mean() + distance(raised_mean - lowered).mean()


_AVERAGED: dict[str, Callable[[Tensor], Tensor]] = {
    "logistic": lambda t: functional.softplus(-t),
    "least_squares": lambda t: (t - 1).square(),
    "hinge": lambda t: functional.relu(1 - t),
}


def _global_mean(logits: Tensor) -> Tensor:
    """Return the mean of the logits of all processes, whose numbers may differ, as a differentiable scalar."""
    count = logits.new_full((), logits.numel())
    total, number = sum_over_processes(torch.stack([logits.sum(), count])).unbind()
    return total / number


def _given(real_logits: Tensor | None) -> Tensor:
    """Return the widened logits of real images, which the game must have passed."""
    assert real_logits is not None, "the game did not pass the logits of real images"
    return at_least_fp32(real_logits)
