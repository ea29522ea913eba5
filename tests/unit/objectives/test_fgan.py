"""f-GAN against its table in 240 digits, Young's inequality, a numerical supremum and f alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor

from framework import Alternating
from framework.objectives.adversarial import Minimax, NonSaturating
from framework.objectives.divergences import NAMED, Divergence, WeightedJensenShannon
from framework.objectives.equilibrium import equilibrium_of
from framework.objectives.fgan import FGAN
from framework.recipe.description import describe
from framework.recipe.override import OverrideError, apply
from framework.utils.errors import FrameworkError
from tests.helpers.play import plain_recipe, start, steps

PI = 0.3
DIVERGENCES: dict[str, Divergence] = {**NAMED, "weighted_jensen_shannon": WeightedJensenShannon(pi=PI)}
LOSSES = [FGAN(divergence=name) for name in NAMED] + [FGAN(divergence=WeightedJensenShannon(pi=PI))]
REAL = torch.tensor([0.3, -1.2, 2.5], dtype=torch.float64)
FAKE = torch.tensor([-0.4, 1.7], dtype=torch.float64)

Digits = Callable[[Decimal], Decimal]
ONE, TWO = Decimal(1), Decimal(2)
WEIGHT = Decimal(PI)  # the double that is nearest to 0.3, with all its digits


def sp(x: Decimal) -> Decimal:
    return (ONE + x.exp()).ln()


def conjugate_of_jeffrey(t: Decimal) -> Decimal:
    """`u t - f(u)` at the root of `f'(u) = log u + 1 - 1 / u = t`, by Newton's steps in log u from the left."""
    x = -(2 - t).ln() if t < 0 else Decimal(0)
    for _ in range(40):
        x -= (x + 1 - (-x).exp() - t) / (1 + (-x).exp())
    return x.exp() * t - (x.exp() - 1) * x


# The paper's tables 2, 5 and 6: g_f as a function of v, f* as a function of T.
TABLE: dict[str, tuple[Digits, Digits]] = {
    "total_variation": (lambda v: (v.exp() - (-v).exp()) / (v.exp() + (-v).exp()) / 2, lambda t: t),
    "kl": (lambda v: v, lambda t: (t - 1).exp()),
    "reverse_kl": (lambda v: -(-v).exp(), lambda t: -1 - (-t).ln()),
    "pearson": (lambda v: v, lambda t: t * t / 4 + t),
    "neyman": (lambda v: 1 - (-v).exp(), lambda t: 2 - 2 * (1 - t).sqrt()),
    "squared_hellinger": (lambda v: 1 - (-v).exp(), lambda t: t / (1 - t)),
    "jeffrey": (lambda v: v, conjugate_of_jeffrey),
    "jensen_shannon": (lambda v: TWO.ln() - sp(-v), lambda t: -(2 - t.exp()).ln()),
    "gan": (lambda v: -sp(-v), lambda t: -(1 - t.exp()).ln()),
    "weighted_jensen_shannon": (
        lambda v: -WEIGHT * WEIGHT.ln() - sp(-v),
        lambda t: (1 - WEIGHT) * ((1 - WEIGHT) / (1 - WEIGHT * (t / WEIGHT).exp())).ln(),
    ),
}


def exactly(name: str, v: float) -> tuple[float, float, float, float]:
    """T, f*(T) and their slopes in v, from the table in 240 digits; the slopes are central differences there.

    At v = -50 and pi = 0.3 the conjugate is `exp(-167)` off a constant: with steps of 1e-30, 105 digits cancel.
    """
    activation, conjugate = TABLE[name]
    with localcontext() as context:
        context.prec = 240
        at, step = Decimal(v), Decimal(10) ** -30
        t, above, below = activation(at), activation(at + step), activation(at - step)
        slopes = (above - below) / (2 * step), (conjugate(above) - conjugate(below)) / (2 * step)
        return float(t), float(conjugate(t)), float(slopes[0]), float(slopes[1])


@pytest.mark.parametrize("v", [-50.0, -15.0, -3.0, -0.5, 0.25, 2.0, 15.0, 50.0])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_values_and_slopes_in_fp32_against_the_table_in_many_digits(name: str, v: float) -> None:
    """Relative to 6e-6: an exponential of an argument up to 88, rounded to fp32, is as wrong as 88 * 2^-24 = 5.2e-6.

    Numbers below its smallest normal one, 1.2e-38, are not compared.
    """
    raw = torch.tensor([v], requires_grad=True)
    divergence = DIVERGENCES[name]
    found = []
    for function in (divergence.activation, divergence.conjugate):
        value = function(raw)
        (slope,) = torch.autograd.grad(value.sum(), raw)
        assert value.dtype == slope.dtype == torch.float32
        found.append((value.item(), slope.item()))
    t, conjugate, t_slope, conjugate_slope = exactly(name, v)
    for ours, expected in zip((*found[0], *found[1]), (t, t_slope, conjugate, conjugate_slope), strict=True):
        assert ours == pytest.approx(expected, rel=6e-6, abs=1.2e-38)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_conjugates_are_suprema_and_meet_youngs_inequality(name: str) -> None:
    """`f*(t) = sup over u of u t - f(u)`, on a grid of u: never above it, and near it where the grid is fine enough.

    The grid's steps are 2e-4 of u, so the best point is 1e-4 of u off the supremum, and the second-order loss is
    `u^2 f''(u) 5e-9`, where `u^2 f''` is at most a few hundred for these v.
    """
    divergence = DIVERGENCES[name]
    v = torch.linspace(-1.9, 3, 15, dtype=torch.float64)  # Pearson's row holds from T = -2 on
    u = torch.logspace(-8, 8, 200_001, dtype=torch.float64)  # 1 is one of them
    f = divergence.f(u)
    t, stated = divergence.activation(v), divergence.conjugate(v)
    found = torch.stack([(u * one - f).max() for one in t])
    assert (found <= stated + 1e-9).all()
    torch.testing.assert_close(found, stated, rtol=1e-5, atol=1e-5)
    assert (t[1:] > t[:-1]).all(), "activations grow with v"


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_where_they_rest(loss: FGAN) -> None:
    stated, at = equilibrium_of(loss), DIVERGENCES.get(loss.divergence, loss.divergence).undecided
    grid = torch.linspace(-6, 6, 1_201, dtype=torch.float64).view(-1, 1)
    common = torch.stack([loss.discriminator(t, t) for t in grid])
    assert float(common.min()) >= stated.discriminator_loss - 1e-12
    assert stated.logit == at
    if at is None:
        assert float(common.max() - common.min()) == 0.0, "any constant is as good"
    else:
        here = torch.tensor([at], dtype=torch.float64, requires_grad=True)
        value = loss.discriminator(here, here)
        (slope,) = torch.autograd.grad(value, here)
        assert abs(float(slope)) < 1e-12
        assert float(value.detach()) == pytest.approx(stated.discriminator_loss, abs=1e-12)
    # A discriminator that is right about every sample, of distributions that do not overlap.
    sure = torch.tensor([40.0], dtype=torch.float64)
    lowest = float(loss.discriminator(sure, -sure.clamp(max=2) if loss.divergence == "pearson" else -sure))
    if math.isinf(stated.lowest_discriminator_loss):
        assert lowest < -39
        assert stated.share(lowest) is None
    else:
        assert lowest == pytest.approx(stated.lowest_discriminator_loss, abs=1e-12)
        assert stated.share(lowest) == pytest.approx(0.0, abs=1e-11)
        assert stated.share(stated.discriminator_loss) == 1.0


def test_the_undecided_output_of_a_weighted_divergence_is_not_zero() -> None:
    assert WeightedJensenShannon().undecided == pytest.approx(-math.log(math.sqrt(2) - 1))
    assert WeightedJensenShannon().largest == pytest.approx(math.log(2))
    half, whole = WeightedJensenShannon(), NAMED["jensen_shannon"]
    u = torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)
    torch.testing.assert_close(2 * half.f(u), whole.f(u))


def test_the_divergence_of_the_original_game_has_its_losses() -> None:
    practical, original = FGAN(divergence="gan"), FGAN(divergence="gan", generator_loss="original")
    torch.testing.assert_close(practical.discriminator(REAL, FAKE), NonSaturating().discriminator(REAL, FAKE))
    torch.testing.assert_close(practical.generator(FAKE), NonSaturating().generator(FAKE))
    torch.testing.assert_close(original.generator(FAKE), Minimax().generator(FAKE))
    assert practical.equilibrium.discriminator_loss == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_gradients_by_finite_differences_to_the_second_order(loss: FGAN) -> None:
    real, fake = REAL.clone().requires_grad_(True), FAKE.clone().requires_grad_(True)
    original = replace(loss, generator_loss="original")
    assert torch.autograd.gradcheck(loss.discriminator, (real, fake))
    assert torch.autograd.gradcheck(original.generator, fake)
    assert torch.autograd.gradgradcheck(loss.discriminator, (real, fake)), "for games that look ahead"


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_losses_are_means_over_wide_logits_of_any_shape(loss: FGAN) -> None:
    logits = torch.cat([REAL, FAKE])
    parts = 3 / 5 * loss.generator(REAL) + 2 / 5 * loss.generator(FAKE)
    torch.testing.assert_close(parts, loss.generator(logits))
    patches = torch.stack([REAL, -REAL]).view(2, 1, 3)
    torch.testing.assert_close(
        loss.discriminator(patches, patches), loss.discriminator(patches.view(-1), patches.view(-1))
    )
    half = torch.tensor([8.0, -8.0, 0.1], dtype=torch.bfloat16, requires_grad=True)
    total = loss.discriminator(half, half)
    assert total.dtype == torch.float32
    total.backward()
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize(
    "divergence", ["total_variation", "jensen_shannon", "gan", WeightedJensenShannon(pi=PI)], ids=str
)
def test_losses_without_exponentials_stay_finite_at_any_output(divergence: str | Divergence) -> None:
    raw = torch.tensor([200.0, -200.0], requires_grad=True)
    loss = FGAN(divergence=divergence, generator_loss="original")
    total = loss.discriminator(raw, raw) + loss.generator(raw.flip(0))
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(raw.grad).all()


@dataclass(frozen=True, kw_only=True)
class Alpha(Divergence):
    """The alpha-divergence, of which a user writes f alone; alpha 0.5 is twice the squared Hellinger distance."""

    alpha: float = 0.5

    def f(self, ratio: Tensor) -> Tensor:
        a = self.alpha
        return (ratio**a - a * ratio + a - 1) / (a * (a - 1))


def test_any_other_divergence_from_f_alone() -> None:
    """Against the squared Hellinger distance, whose T at the ratio u is `1 - 1 / sqrt(u)`: its v is half of log u."""
    own, known = Alpha(), NAMED["squared_hellinger"]
    v = torch.tensor([-30.0, -3.0, -0.2, 0.0, 0.5, 4.0, 30.0], requires_grad=True)
    torch.testing.assert_close(own.activation(v), 2 * known.activation(v / 2), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(own.conjugate(v), 2 * known.conjugate(v / 2), rtol=1e-6, atol=1e-6)
    for function, reference in ((own.activation, known.activation), (own.conjugate, known.conjugate)):
        (ours,) = torch.autograd.grad(function(v).sum(), v)
        (theirs,) = torch.autograd.grad(2 * reference(v / 2).sum(), v)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    far = torch.tensor([-100.0, 100.0])
    torch.testing.assert_close(own.activation(far), 2 * known.activation(far / 2), rtol=6e-6, atol=0)
    loss = FGAN(divergence=own)
    with torch.no_grad():
        value = loss.discriminator(REAL, FAKE)
    assert value.grad_fn is None
    real, fake = REAL.clone().requires_grad_(True), FAKE.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(loss.discriminator, (real, fake))
    assert torch.autograd.gradgradcheck(loss.discriminator, (real, fake))
    assert loss.equilibrium.logit == 0.0
    assert loss.equilibrium.discriminator_loss == 0.0
    assert loss.equilibrium.share(-1.0) is None, "how large it can be is not known from f"
    assert loss.discriminator(torch.zeros(4, device="meta"), torch.zeros(4, device="meta")).shape == ()


def test_any_other_divergence_in_a_game() -> None:
    recipe = apply(plain_recipe(game=Alternating(loss=FGAN(divergence=Alpha()))), ["game.loss.divergence.alpha=0.25"])
    assert describe(recipe)["game"]["loss"]["divergence"] == {"type": "Alpha", "alpha": 0.25}
    whole, parts = (steps(start(recipe, micro_batches=m, dtype=torch.float64), count=2) for m in (1, 3))
    torch.testing.assert_close(whole["scores/loss/D"], parts["scores/loss/D"], rtol=1e-10, atol=1e-12)
    assert "scores/sign/real" in whole


def test_a_flag_chooses_the_divergence() -> None:
    recipe = plain_recipe(game=Alternating(loss=FGAN(divergence="kl")))
    chosen = apply(recipe, ["game.loss.divergence=pearson", "game.loss.generator_loss=original"])
    assert chosen.game.loss == FGAN(divergence="pearson", generator_loss="original")
    with pytest.raises(OverrideError, match=r"game\.loss\.divergence: expects .*, got 'wasserstein'"):
        apply(recipe, ["game.loss.divergence=wasserstein"])


def test_divergences_that_contradict_themselves_are_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Shifted(Divergence):
        """KL, with the activation and conjugate of the table, and the undecided output of another row."""

        rests: float = 1.0

        def f(self, ratio: Tensor) -> Tensor:
            return ratio * ratio.log()

        def activation(self, raw: Tensor) -> Tensor:
            return raw

        def conjugate(self, raw: Tensor) -> Tensor:
            return (raw - 1).exp()

        @property
        def undecided(self) -> float:
            return self.rests

    assert FGAN(divergence=Shifted()).equilibrium == FGAN(divergence="kl").equilibrium
    with pytest.raises(
        FrameworkError, match=r"Shifted: at the undecided output 0, T - f\*\(T\) is -0\.36.*slope 0\.63"
    ):
        FGAN(divergence=Shifted(rests=0.0))
    with pytest.raises(
        FrameworkError, match=r"divergence='hellinger' must be one of 'total_variation', 'kl', .*Diverg"
    ):
        FGAN(divergence="hellinger")  # type: ignore[arg-type]
    with pytest.raises(FrameworkError, match=r"WeightedJensenShannon: pi=1\.0 must be below 1"):
        WeightedJensenShannon(pi=1.0)
