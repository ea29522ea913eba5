"""The equilibrium of an adversarial game: generated samples are distributed like the data.

Let p be the density of the data and q that of the generator. Losses of single logits have the form
`E_p[a(D)] + E_q[b(D)]`; the best discriminator minimises `p(x) a(t) + q(x) b(t)` at every x, so where p = q it returns
the same t everywhere, the minimiser of `a + b`. That t is the undecided logit, and `a(t) + b(t)` is the loss of a
discriminator that cannot distinguish the two. A sample "counts as real" if its logit is above t, not above 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from framework.utils.errors import FrameworkError

_LEVEL = 1e-3
"""Slopes of the loss up to this size are taken for rounding; see `equilibrium_of`."""


class DiscriminatorLoss(Protocol):
    """The part of `AdversarialLoss` that determines the equilibrium."""

    @property
    def needs_real_logits(self) -> bool:
        """Whether the generator's loss compares with the logits of real images."""
        ...

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for logits (N,) of real and generated samples."""
        ...


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """The logit and the loss of the best discriminator when generated samples are distributed like the data.

    Raises:
        FrameworkError: a number is not finite, or the lowest loss is NaN or above the one at equilibrium.
    """

    logit: float | None
    """The discriminator's logit for every sample. None: any constant is equally good, because the loss depends on
    differences of logits only, or the logit is unknown; then no single logit shows who is winning."""
    discriminator_loss: float | None
    """The discriminator's adversarial loss, without penalties. None: unknown."""
    lowest_discriminator_loss: float = 0.0
    """The loss's infimum, when the discriminator is right about every sample; `-math.inf` if it has no lower bound."""

    def __post_init__(self) -> None:
        for name in ("logit", "discriminator_loss"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise FrameworkError(f"Equilibrium: {name}={value} must be a finite number or None")
        lowest, undecided = self.lowest_discriminator_loss, self.discriminator_loss
        if not lowest <= (math.inf if undecided is None else undecided):
            raise FrameworkError(
                f"Equilibrium: lowest_discriminator_loss={lowest} must not be above discriminator_loss={undecided}"
            )

    @classmethod
    def at(cls, loss: DiscriminatorLoss, *, logit: float, lowest_discriminator_loss: float = 0.0) -> Equilibrium:
        """Return the equilibrium of a loss of single logits, given its undecided logit; the loss there is computed.

        Args:
            loss: called with logits (1,).
            logit: the undecided logit.
            lowest_discriminator_loss: see the attribute.

        Raises:
            FrameworkError: see the class.
        """
        undecided = torch.full((1,), logit)
        return cls(
            logit=logit,
            discriminator_loss=float(loss.discriminator(undecided, undecided)),
            lowest_discriminator_loss=lowest_discriminator_loss,
        )

    def share(self, discriminator_loss: float) -> float | None:
        """Return a loss as a share of the one at equilibrium, both counted from the lowest.

        The share is 1 for an undecided discriminator and 0 for one that is right about every sample. It is None if the
        loss has no lower bound, is constant, or is unknown at equilibrium.
        """
        if self.discriminator_loss is None or math.isinf(self.lowest_discriminator_loss):
            return None
        reach = self.discriminator_loss - self.lowest_discriminator_loss
        return (discriminator_loss - self.lowest_discriminator_loss) / reach if reach > 0 else None


def equilibrium_of(loss: DiscriminatorLoss) -> Equilibrium:
    """Return the equilibrium that a loss states as its attribute `equilibrium`, or an estimate if it states none.

    A loss without the attribute is taken to have its equilibrium at the logit 0, if a necessary condition holds: as a
    function of one logit common to all samples, its slope at 0 is zero. Otherwise neither logit nor loss is known.
    Losses that compare logits (`needs_real_logits`) or are not positive at 0 (a difference of means) are taken to have
    no undecided logit. If the loss sums over processes, this call is a collective.

    Raises:
        FrameworkError: the attribute is not an `Equilibrium`.
    """
    stated = getattr(loss, "equilibrium", None)
    if isinstance(stated, Equilibrium):
        return stated
    if stated is not None:
        raise FrameworkError(
            f"{type(loss).__name__}: equilibrium={stated!r} must be an Equilibrium, such as "
            "Equilibrium.at(self, logit=0.0)"
        )
    # The loss, and its slope, at the logit 0 for all samples.
    with torch.enable_grad():
        common = torch.zeros(1, requires_grad=True)
        value = loss.discriminator(common, common)
        (slope,) = torch.autograd.grad(value, common)
    if abs(float(slope)) > _LEVEL:
        return Equilibrium(logit=None, discriminator_loss=None)
    undecided = float(value.detach())
    if undecided <= 0:
        return Equilibrium(logit=None, discriminator_loss=undecided, lowest_discriminator_loss=-math.inf)
    return Equilibrium(logit=None if loss.needs_real_logits else 0.0, discriminator_loss=undecided)
