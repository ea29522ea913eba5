"""f-GAN: a generator trained to minimise any f-divergence (Nowozin et al., arXiv:1606.00709)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from framework.networks.blocks.precision import at_least_fp32
from framework.objectives.divergences import NAMED, Divergence, DivergenceName
from framework.objectives.equilibrium import Equilibrium
from framework.recipe.checks import check_fields
from framework.utils.errors import FrameworkError

_TOLERANCE = 1e-4
"""How much the parts of a divergence may contradict each other, in float64, before they are refused."""


@dataclass(frozen=True, kw_only=True)
class FGAN:
    """The variational estimate of an f-divergence (arXiv:1606.00709, eq. 7), a function of raw outputs v.

    D: `-E[g_f(real)] + E[f*(g_f(fake))]`, which is minus a lower bound, an estimate, of the divergence.
    G: `-E[g_f(fake)]` (`practical`, section 3.2) or `-E[f*(g_f(fake))]` (`original`, algorithm 1). With the divergence
    `gan` these are the losses of `NonSaturating` and of `Minimax`.

    The losses of `kl`, `reverse_kl`, `neyman`, `squared_hellinger` and `jeffrey` are exponentials of v, which overflow
    in fp32 beyond 88; such a step is skipped. A small learning rate, `clip_norm` or a gradient penalty keeps v small.

    Raises:
        RecipeError: a field of another type than it is declared with, or an unknown name.
        FrameworkError: the functions of a divergence of one's own contradict each other.
    """

    divergence: DivergenceName | Divergence
    """Which one: a name, `WeightedJensenShannon(pi=0.3)`, or one of your own, a subclass of `Divergence`."""
    generator_loss: Literal["practical", "original"] = "practical"
    """What the generator minimises, see above."""

    needs_real_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.divergence, str):
            _check(self.divergence)

    @property
    def equilibrium(self) -> Equilibrium:
        """The undecided logit is the v with `g_f(v) = f'(1)`, and the loss there is -f(1): 0, for `gan` 2 log 2.

        The lowest loss is minus the largest value of the divergence. For `total_variation` any logit is undecided.
        """
        divergence = self._divergence
        return Equilibrium(
            logit=divergence.undecided,
            discriminator_loss=0.0 - _at_one(divergence),
            lowest_discriminator_loss=-divergence.largest,
        )

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for raw outputs (N,) of real and generated samples."""
        divergence = self._divergence
        return (
            divergence.conjugate(at_least_fp32(fake_logits)).mean()
            - divergence.activation(at_least_fp32(real_logits)).mean()
        )

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, for raw outputs (N,) of generated samples."""
        divergence, wide = self._divergence, at_least_fp32(fake_logits)
        judged = divergence.activation(wide) if self.generator_loss == "practical" else divergence.conjugate(wide)
        return -judged.mean()

    @property
    def _divergence(self) -> Divergence:
        return NAMED[self.divergence] if isinstance(self.divergence, str) else self.divergence


def _at_one(divergence: Divergence) -> float:
    """Return f(1), minus the loss of an undecided discriminator."""
    return float(divergence.f(torch.ones((), dtype=torch.float64)))


def _check(divergence: Divergence) -> None:
    """Refuse a divergence whose parts contradict each other where the discriminator is undecided.

    There `T - f*(T)` is f(1), the largest that it is for any v, so it has no slope.

    Raises:
        FrameworkError: names the class, and both values.
    """
    at, expected = divergence.undecided or 0.0, _at_one(divergence)
    with torch.enable_grad():
        raw = torch.full((), at, dtype=torch.float64, requires_grad=True)
        bound = divergence.activation(raw) - divergence.conjugate(raw)
        (slope,) = torch.autograd.grad(bound, raw)
    found = float(bound.detach())
    if not (abs(found - expected) <= _TOLERANCE and abs(float(slope)) <= _TOLERANCE):
        raise FrameworkError(
            f"FGAN: {type(divergence).__name__}: at the undecided output {at:g}, T - f*(T) is {found:g} with the slope "
            f"{float(slope):g}; it must be f(1) = {expected:g} with the slope 0"
        )
