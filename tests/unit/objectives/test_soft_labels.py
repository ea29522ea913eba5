"""Soft, random and flipped labels: their cross-entropy by hand, on average, in a game, and where they rest."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from framework import Alternating, Draw
from framework.objectives.adversarial import AdversarialLoss, Minimax, NonSaturating, StochasticLoss, with_draws
from framework.objectives.adversarial_term import Adversarial
from framework.objectives.equilibrium import equilibrium_of
from framework.objectives.soft_labels import SoftLabels
from framework.objectives.terms import TermInputs
from framework.recipe.override import apply
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Given, Seeded
from tests.helpers.play import plain_recipe, smooth_recipe, start, steps

REAL = torch.tensor([0.3, -1.2, 2.5, 0.8], dtype=torch.float64)
FAKE = torch.tensor([-0.4, 1.7, 0.1, -2.0], dtype=torch.float64)
GANHACKS = SoftLabels(real=(0.7, 1.2), fake=(0.0, 0.3), flipped=0.1)
SETTINGS = [
    SoftLabels(),
    SoftLabels(real=(0.7, 1.2), fake=(0.0, 0.3)),
    GANHACKS,
    SoftLabels(real=(1.0, 1.0), flipped=0.2),
    SoftLabels(real=(1.0, 1.4), fake=(-0.2, 0.0)),
]


def cross_entropy(logits: Tensor, targets: Tensor | float) -> Tensor:
    positive = 1 / (1 + (-logits).exp())
    return -(targets * positive.log() + (1 - targets) * (1 - positive).log()).mean()


def given(**values: Tensor) -> Given:
    return Given({f"soft_labels/{name.replace('__', '/')}": value for name, value in values.items()})


def test_one_sided_smoothing_is_cross_entropy_with_nine_tenths_and_draws_nothing() -> None:
    loss = SoftLabels()
    torch.testing.assert_close(loss.discriminator(REAL, FAKE), cross_entropy(REAL, 0.9) + cross_entropy(FAKE, 0.0))
    torch.testing.assert_close(loss.generator(FAKE), NonSaturating().generator(FAKE))
    assert loss.drawn(Given()) is loss
    assert with_draws(NonSaturating(), Given()) == NonSaturating(), "other losses are as they are"


def test_targets_are_drawn_from_the_intervals_and_flipped() -> None:
    shares = {name: torch.rand(4, dtype=torch.float64) for name in ("real", "fake", "real__flipped", "fake__flipped")}
    draw = given(
        **shares,
        real__flips=torch.tensor([0.05, 0.5, 0.099, 0.1]),
        fake__flips=torch.tensor([0.9, 0.9, 0.9, 0.0]),
    )
    real = 0.7 + 0.5 * shares["real"]
    real[[0, 2]] = 0.3 * shares["real__flipped"][[0, 2]]
    fake = 0.3 * shares["fake"]
    fake[3] = 0.7 + 0.5 * shares["fake__flipped"][3]
    found = with_draws(GANHACKS, draw).discriminator(REAL, FAKE)
    torch.testing.assert_close(found, cross_entropy(REAL, real) + cross_entropy(FAKE, fake))


def test_the_generators_targets_are_drawn_too_and_minimax_has_none() -> None:
    loss = SoftLabels(real=(0.7, 1.2), generated=(0.7, 1.2))
    share = torch.rand(4, dtype=torch.float64)
    found = with_draws(loss, given(generated=share)).generator(FAKE)
    torch.testing.assert_close(found, cross_entropy(FAKE, 0.7 + 0.5 * share))
    torch.testing.assert_close(loss.generator(FAKE), cross_entropy(FAKE, 0.95))
    minimax = replace(loss, generator_loss="minimax")
    assert torch.equal(with_draws(minimax, Given()).generator(FAKE), Minimax().generator(FAKE))


@pytest.mark.parametrize("loss", SETTINGS, ids=repr)
def test_without_draws_the_loss_is_the_mean_over_all_draws(loss: SoftLabels) -> None:
    """It is linear in each target, so shares u and 1 - u average exactly; flips are weighed by their probability."""
    share = torch.tensor([0.1, 0.4, 0.8, 0.6], dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for u in (share, 1 - share):
        for flips, weight in ((1.0, 1 - loss.flipped), (0.0, loss.flipped)):
            draw = given(
                **dict.fromkeys(("real", "fake", "real__flipped", "fake__flipped"), u),
                **dict.fromkeys(("real__flips", "fake__flips"), torch.full((4,), flips)),
            )
            total += 0.5 * weight * with_draws(loss, draw).discriminator(REAL, FAKE)
    torch.testing.assert_close(total, loss.discriminator(REAL, FAKE))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 1, 2, 3)], ids=str)
def test_patches_of_a_sample_share_its_target(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, dtype=torch.float64).requires_grad_(True)
    share = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    loss = with_draws(SoftLabels(real=(0.5, 1.0)), given(real=share))
    (gradient,) = torch.autograd.grad(loss.discriminator(logits, logits.detach()), logits)
    targets = torch.stack([torch.full(shape[1:], 0.5 + 0.5 * float(one), dtype=torch.float64) for one in share])
    torch.testing.assert_close(gradient, (logits.sigmoid() - targets) / logits.numel())


def test_every_scale_of_a_turn_has_the_same_targets_and_parts_of_a_batch_their_own() -> None:
    @dataclass(frozen=True)
    class Scales:
        logits: tuple[Tensor, ...]

    def value(rows: slice) -> Tensor:
        real, fake = REAL[rows], FAKE[rows]
        inputs = TermInputs(
            network=torch.nn.Identity(),
            discriminate=lambda samples, labels: samples,
            draw=Seeded(batch_size=4, rows=rows),
            outputs={name: Scales((one, torch.stack([one, one], 1))) for name, one in (("real", real), ("fake", fake))},
        )
        return Adversarial(loss=GANHACKS, scales="sum").value(inputs)

    whole = value(slice(0, 4))
    torch.testing.assert_close(whole, 0.25 * value(slice(0, 1)) + 0.75 * value(slice(1, 4)))
    once = with_draws(GANHACKS, Seeded(batch_size=4)).discriminator(REAL, FAKE)
    torch.testing.assert_close(whole, 2 * once)


def test_a_game_draws_new_labels_every_turn_whatever_its_micro_batches() -> None:
    def played(micro_batches: int) -> dict[str, Tensor]:
        loss = replace(GANHACKS, generated=(0.7, 1.2))
        recipe = plain_recipe(game=Alternating(loss=loss, critic_steps=2))
        return steps(start(recipe, micro_batches=micro_batches, dtype=torch.float64), count=2)

    whole, parts = played(1), played(3)
    for name in ("scores/loss/D", "scores/loss/G", "scores/grad_norm/D"):
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-10, atol=0)


@dataclass(frozen=True, kw_only=True)
class Listening(SoftLabels):
    """Soft labels that write down what they draw for real samples."""

    heard: ClassVar[list[Tensor]] = []

    def drawn(self, draw: Draw) -> AdversarialLoss:
        self.heard.append(draw.uniform("soft_labels/real"))
        return super().drawn(draw)


def test_every_turn_has_draws_of_its_own() -> None:
    Listening.heard.clear()
    recipe = plain_recipe(game=Alternating(loss=Listening(real=(0.7, 1.2)), critic_steps=2))
    steps(start(recipe), count=2)
    assert [len(one) for one in Listening.heard] == [12] * 6
    assert len({tuple(one.tolist()) for one in Listening.heard}) == 6


@pytest.mark.parametrize("loss", SETTINGS, ids=repr)
def test_where_it_rests(loss: SoftLabels) -> None:
    """Against a search over the expected loss in float64, and over either side's logits alone."""
    stated = equilibrium_of(loss)
    assert stated.logit is not None
    at = torch.tensor([stated.logit], dtype=torch.float64, requires_grad=True)
    value = loss.discriminator(at, at)
    (slope,) = torch.autograd.grad(value, at)
    assert abs(float(slope)) < 1e-12
    assert float(value.detach()) == pytest.approx(stated.discriminator_loss, rel=1e-12)
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64).view(-1, 1)
    common = torch.vmap(lambda t: loss.discriminator(t, t))(grid)
    assert float(common.min()) >= stated.discriminator_loss - 1e-12
    fixed = torch.zeros(1, dtype=torch.float64)
    on_real = torch.vmap(lambda t: loss.discriminator(t, fixed))(grid)
    on_fake = torch.vmap(lambda t: loss.discriminator(fixed, t))(grid)
    lowest = float(on_real.min() + on_fake.min() - loss.discriminator(fixed, fixed))
    if math.isinf(stated.lowest_discriminator_loss):
        assert on_real.argmin() == len(grid) - 1, "the loss falls without an end"
        assert stated.share(lowest) is None
    else:
        # A step of 0.001 off the minimum of a function whose second derivative is below 1/4, on both sides.
        assert lowest == pytest.approx(stated.lowest_discriminator_loss, abs=2.5e-7)


def test_known_values_of_one_sided_smoothing() -> None:
    stated = SoftLabels().equilibrium
    assert stated.logit == pytest.approx(math.log(0.45 / 0.55))
    assert stated.discriminator_loss == pytest.approx(-2 * (0.45 * math.log(0.45) + 0.55 * math.log(0.55)))
    assert stated.lowest_discriminator_loss == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert SoftLabels(real=(1.0, 1.0)).equilibrium == replace(
        NonSaturating().equilibrium, discriminator_loss=2 * math.log(2)
    )


def test_logits_of_any_precision_and_size_stay_finite() -> None:
    logits = torch.tensor([200.0, -200.0, 0.1], dtype=torch.bfloat16, requires_grad=True)
    loss = with_draws(GANHACKS, Seeded(batch_size=3))
    total = loss.discriminator(logits, logits) + loss.generator(logits)
    assert total.dtype == torch.float32
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


def test_one_draw_for_each_row_of_logits() -> None:
    with pytest.raises(FrameworkError, match="draws 3 targets, one for each sample, but the discriminator returned 4"):
        with_draws(GANHACKS, Seeded(batch_size=3)).discriminator(REAL, FAKE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"real": (1.2, 0.7)}, r"SoftLabels: real=\(1\.2, 0\.7\) must begin with its smallest"),
        ({"real": (0.1, 0.1), "fake": (0.2, 0.2)}, "0.1 of real and 0.2 of generated samples, must be apart"),
        ({"real": (1.0, 3.0)}, "on average between 0 and 1"),
        ({"flipped": 0.5}, r"SoftLabels: flipped=0\.5 must be below 0\.5"),
        ({"real": 0.9}, "SoftLabels: real=0.9 must be a tuple"),
        ({"generator_loss": "hinge"}, "generator_loss='hinge' must be one of 'non_saturating', 'minimax'"),
        ({"fake": (0.0, math.nan)}, "SoftLabels: fake=nan must be a finite number"),
    ],
)
def test_labels_that_cannot_work_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        SoftLabels(**fields)


def test_a_flag_sets_the_labels() -> None:
    recipe = apply(
        smooth_recipe(game=Alternating(loss=SoftLabels())), ["game.loss.real=0.7,1.2", "game.loss.flipped=0.1"]
    )
    assert recipe.game.loss == SoftLabels(real=(0.7, 1.2), flipped=0.1)
    assert isinstance(recipe.game.loss, StochasticLoss)
    assert not isinstance(NonSaturating(), StochasticLoss)
