"""Where losses rest: stated values against a search, and what is made of losses that state nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from framework.objectives.adversarial import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein
from framework.objectives.equilibrium import Equilibrium, equilibrium_of
from framework.objectives.relativistic import RelativisticAverage, RelativisticPairing
from framework.utils.errors import FrameworkError
from tests.helpers.resting import KullbackLeibler

KNOWN = {
    Hinge(): (0.0, 2.0),
    NonSaturating(): (0.0, 2 * math.log(2)),
    Minimax(): (0.0, 2 * math.log(2)),
    LeastSquares(): (0.5, 0.25),
    LeastSquares(real_target=1.0, fake_target=-1.0, generator_target=0.0): (0.0, 1.0),
    Wasserstein(): (None, 0.0),
    RelativisticPairing(): (None, math.log(2)),
    RelativisticAverage(kind="logistic"): (None, 2 * math.log(2)),
    RelativisticAverage(kind="least_squares"): (None, 2.0),
    RelativisticAverage(kind="hinge"): (None, 2.0),
    KullbackLeibler(): (1.0, 0.0),
}


@pytest.mark.parametrize("loss", KNOWN, ids=repr)
def test_stated_equilibria_are_the_known_ones(loss) -> None:
    logit, undecided = KNOWN[loss]
    stated = equilibrium_of(loss)
    assert stated.logit == logit
    assert stated.discriminator_loss == pytest.approx(undecided, rel=1e-7)


@pytest.mark.parametrize("loss", KNOWN, ids=repr)
def test_no_common_logit_is_better_for_the_discriminator(loss) -> None:
    """Where both distributions are the same, the best discriminator answers with one logit, the best of all."""
    stated = equilibrium_of(loss)
    common = torch.linspace(-4, 4, 801, dtype=torch.float64)
    losses = torch.stack([loss.discriminator(t.view(1), t.view(1)) for t in common])
    assert stated.discriminator_loss == pytest.approx(losses.min().item(), abs=1e-6)
    best = common[losses < losses.min() + 1e-9]
    if stated.logit is None:
        assert len(best) == len(common), "any constant is as good"
    else:  # the middle of those that are equally good
        assert ((best[0] + best[-1]) / 2).item() == pytest.approx(stated.logit, abs=1e-9)


@pytest.mark.parametrize("loss", [Hinge(), NonSaturating(), Minimax()], ids=repr)
def test_bits_of_losses_that_rest_at_zero(loss) -> None:
    nothing = torch.zeros(1)
    assert equilibrium_of(loss).discriminator_loss == float(loss.discriminator(nothing, nothing))
    assert equilibrium_of(loss).share(0.3) == 0.3 / float(loss.discriminator(nothing, nothing))


def test_shares_lie_between_the_lowest_loss_and_the_undecided_one() -> None:
    shifted = Equilibrium(logit=0.0, discriminator_loss=0.0, lowest_discriminator_loss=-2.0)
    assert [shifted.share(loss) for loss in (0.0, -1.0, -2.0)] == [1.0, 0.5, 0.0]
    assert Wasserstein().equilibrium.share(-3.0) is None
    assert KullbackLeibler().equilibrium.share(-3.0) is None
    assert Equilibrium(logit=0.0, discriminator_loss=None).share(1.0) is None


@dataclass(frozen=True)
class Silent:
    """A discriminator's loss that states nothing: that of another one, whose `kind` it is."""

    kind: object
    needs_real_logits: ClassVar[bool] = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return self.kind.discriminator(real_logits, fake_logits)


class Smoothed(Silent):
    """One-sided label smoothing (arXiv:1606.03498, section 3.4): real images are real with probability 0.9."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        smooth = torch.full_like(real_logits, 0.9)
        return (
            functional.binary_cross_entropy_with_logits(real_logits, smooth) + functional.softplus(fake_logits).mean()
        )


def test_losses_that_state_nothing() -> None:
    assert equilibrium_of(Silent(Hinge())) == Hinge().equilibrium
    assert equilibrium_of(Silent(NonSaturating())) == NonSaturating().equilibrium
    assert equilibrium_of(Silent(Wasserstein())) == Wasserstein().equilibrium
    with torch.no_grad():  # as in an evaluation
        unknown = [equilibrium_of(loss) for loss in (Silent(KullbackLeibler()), Silent(LeastSquares()), Smoothed(None))]
    assert all(one.logit is None and one.discriminator_loss is None for one in unknown), "0 is not where they rest"
    compared = type("Compared", (Silent,), {"needs_real_logits": True})
    assert equilibrium_of(compared(RelativisticPairing())) == RelativisticPairing().equilibrium


def test_what_is_no_equilibrium_is_named() -> None:
    wrong = type("Wrong", (Silent,), {"equilibrium": 1.0})
    with pytest.raises(FrameworkError, match=r"Wrong: equilibrium=1\.0 must be an Equilibrium"):
        equilibrium_of(wrong(Hinge()))
    with pytest.raises(FrameworkError, match="logit=nan must be a finite number or None"):
        Equilibrium(logit=math.nan, discriminator_loss=1.0)
    with pytest.raises(FrameworkError, match="lowest_discriminator_loss=nan must not be above"):
        Equilibrium(logit=0.0, discriminator_loss=1.0, lowest_discriminator_loss=math.nan)
    with pytest.raises(FrameworkError, match=r"lowest_discriminator_loss=2\.0 must not be above discriminator_loss=1"):
        Equilibrium(logit=0.0, discriminator_loss=1.0, lowest_discriminator_loss=2.0)
    for targets in ({"real_target": 0.0}, {"fake_target": math.nan}, {"generator_target": math.inf}):
        with pytest.raises(FrameworkError, match="LeastSquares: fake_target="):
            LeastSquares(**targets)
