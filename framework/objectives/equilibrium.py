"""Where an adversarial game rests: generated samples are distributed as the data.

Let p be the density of the data and q that of the generator. Losses of single logits have the form
`E_p[a(D)] + E_q[b(D)]`; the best discriminator minimises `p(x) a(t) + q(x) b(t)` at every x, so where p = q it answers
with the same t everywhere, the minimiser of `a + b`. That t is the undecided logit, and `a(t) + b(t)` the loss of a
discriminator that cannot tell the two apart. "Sure of real images" means above t, not above 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from framework.errors import FrameworkError

_LEVEL = 1e-3
"""A slope of the loss in a common logit below this is rounding."""


class DiscriminatorLoss(Protocol):
    """The part of `AdversarialLoss` that decides where the game rests."""

    @property
    def needs_real_logits(self) -> bool:
        """The generator's loss compares with the logits of real images."""
        ...

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The discriminator's loss, a scalar."""
        ...


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """What the best discriminator does where generated samples are distributed as the data.

    Raises:
        FrameworkError: a number that is NaN, or a lowest loss above the one at equilibrium.
    """

    logit: float | None
    """Its answer to every sample. None: any constant is as good, because the loss sees differences of logits only, or
    it is not known; then no single logit says who is winning."""
    discriminator_loss: float | None
    """Its adversarial loss, without penalties. None: not known."""
    lowest_discriminator_loss: float = 0.0
    """What the loss comes near when the discriminator is right about everything; `-math.inf` where it has no bound."""

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
        """The equilibrium of a loss of single logits whose undecided logit is known; its loss is computed."""
        undecided = torch.full((1,), logit)
        return cls(
            logit=logit,
            discriminator_loss=float(loss.discriminator(undecided, undecided)),
            lowest_discriminator_loss=lowest_discriminator_loss,
        )

    def share(self, discriminator_loss: float) -> float | None:
        """A loss as a share of the undecided one, both above the lowest: 1 undecided, 0 right about everything.

        None where the loss has no lowest value, or is constant: then it has no scale.
        """
        if self.discriminator_loss is None or math.isinf(self.lowest_discriminator_loss):
            return None
        reach = self.discriminator_loss - self.lowest_discriminator_loss
        return (discriminator_loss - self.lowest_discriminator_loss) / reach if reach > 0 else None


def equilibrium_of(loss: DiscriminatorLoss) -> Equilibrium:
    """The equilibrium that a loss states as its attribute `equilibrium`, or what can be said of one that states none.

    A loss without the attribute is taken to rest at the logit 0, with its loss there, if it passes what is necessary
    for that: its value at one common logit has no slope at 0. If it has one, neither logit nor loss is known. Losses
    that compare logits (`needs_real_logits`) or are not positive at 0 (a difference of means) are taken to have no
    undecided logit. Where the loss sums over processes, this is a collective.

    Raises:
        FrameworkError: the attribute is something else.
    """
    stated = getattr(loss, "equilibrium", None)
    if isinstance(stated, Equilibrium):
        return stated
    if stated is not None:
        raise FrameworkError(
            f"{type(loss).__name__}: equilibrium={stated!r} must be an Equilibrium, such as "
            "Equilibrium.at(self, logit=0.0)"
        )
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
