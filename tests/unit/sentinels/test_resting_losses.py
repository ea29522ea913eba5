"""Sentinels on games at rest and on games that are won, for every loss: no false alarm, and no missed one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from framework.objectives.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    MaximumLikelihood,
    Minimax,
    NonSaturating,
)
from framework.objectives.divergences import NAMED, Divergence, WeightedJensenShannon
from framework.objectives.equilibrium import equilibrium_of
from framework.objectives.fgan import FGAN
from framework.objectives.relativistic import RelativisticAverage, RelativisticCentered, RelativisticPairing
from framework.objectives.soft_labels import SoftLabels
from framework.sentinels import Baselines, signals
from framework.sentinels.alerts import SentinelStates
from framework.sentinels.table import SENTINELS, Health

TICKS = 12


@dataclass(frozen=True, kw_only=True)
class OwnKL(Divergence):
    """KL from f alone."""

    def f(self, ratio: Tensor) -> Tensor:
        return ratio * ratio.log()


SURE = (12.0, -12.0)
DIVERGENCES: list[str | Divergence] = [*NAMED, WeightedJensenShannon(pi=0.2), OwnKL()]

WON: dict[AdversarialLoss, tuple[float, float]] = {
    **{FGAN(divergence=divergence): SURE for divergence in DIVERGENCES},
    **dict.fromkeys((Hinge(), NonSaturating(), Minimax(), MaximumLikelihood()), SURE),
    LeastSquares(): (1.0, 0.0),
    SoftLabels(): (math.log(9), -12.0),
    SoftLabels(real=(0.7, 1.2), fake=(0.0, 0.3)): (math.log(0.95 / 0.05), math.log(0.15 / 0.85)),
    SoftLabels(real=(1.0, 1.0), flipped=0.1): (math.log(9), -math.log(9)),
    RelativisticPairing(): SURE,
    RelativisticPairing(kind="least_squares"): (0.5, -0.5),
    RelativisticPairing(kind="hinge", convention="relativistic_f_divergences"): SURE,
    RelativisticAverage(convention="relativistic_gan"): SURE,
    RelativisticCentered(kind="least_squares"): (1.0, -1.0),
}
"""The best logits of real and of generated samples that are told apart, or good ones where they are infinite."""


def health(loss: AdversarialLoss, real: Tensor, fake: Tensor) -> dict[str, Health]:
    """What sentinels think of a discriminator that gave these logits (N,) in every tick, by signal."""
    equilibrium = equilibrium_of(loss)
    metrics = {
        "loss/D": float(loss.discriminator(real, fake)),
        "logits/real": float(real.mean()),
        "logits/fake": float(fake.mean()),
    }
    if equilibrium.logit is not None:  # as games score it
        metrics["sign/real"] = float((real - equilibrium.logit).sign().mean())
    states, baselines = SentinelStates(SENTINELS, total_images=1_000_000, step_images=100), Baselines()
    values: dict[str, float] = {}
    for tick in range(TICKS):
        values = signals(metrics, equilibrium=equilibrium, baselines=baselines, steps=20, skipped_steps=0)
        states.observe(100_000 + 2_000 * tick, values)
    return {alert.sentinel.signal: alert.health for alert in states.standing(200_000, values)}


def best_answers(loss: AdversarialLoss) -> list[float]:
    """The logits that are best where data and generated samples are distributed alike, found by a search.

    It is the middle of those that are equally good, to 0.01; where all are, some of them.
    """
    common = torch.linspace(-4, 4, 801, dtype=torch.float64)
    losses = torch.stack([loss.discriminator(t.view(1), t.view(1)) for t in common])
    best = common[losses < losses.min() + 1e-9]
    return [-3.0, 0.0, 3.0] if len(best) == len(common) else [float(best[0] + best[-1]) / 2]


@pytest.mark.parametrize("loss", WON, ids=repr)
def test_a_discriminator_at_equilibrium_raises_no_alert(loss: AdversarialLoss) -> None:
    """Data and generated samples are distributed alike, and the discriminator answers nearly as it should."""
    for at in best_answers(loss):
        logits = at + 0.1 * torch.linspace(-1, 1, 64, dtype=torch.float64)
        found = health(loss, logits, logits.flip(0))
        assert set(found.values()) == {Health.ok}, found
        assert found.keys() & {"sign_real", "discriminator_loss_share"}, "something is watched"


@pytest.mark.parametrize("loss", WON, ids=repr)
def test_a_discriminator_that_has_won_is_told(loss: AdversarialLoss) -> None:
    real, fake = (torch.full((64,), at, dtype=torch.float64) for at in WON[loss])
    found, stated = health(loss, real, fake), equilibrium_of(loss)
    failing = {signal for signal, health in found.items() if health is Health.failing}
    expected = set() if stated.logit is None else {"sign_real"}
    expected |= set() if math.isinf(stated.lowest_discriminator_loss) else {"discriminator_loss_share"}
    assert failing == expected
    assert expected
