"""Signals from scores, spectra and pixels, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from framework.networks.blocks.spectral import power_iteration, spectral_norm
from framework.objectives.adversarial import Hinge, Wasserstein
from framework.objectives.relativistic import RelativisticPairing
from framework.sentinels import Baselines, diversity, signals, spread
from framework.sentinels.signals import BASELINE_TICKS, singular_values

HINGE = Hinge().equilibrium
SCORES = {
    "loss/D": 0.5,
    "sign/real": 0.7,
    "augment/p": 0.2,
    "logits/real": 1.5,
    "logits/fake": -0.5,
    "grad_norm/D": 10.0,
    "grad_norm/G": 0.1,
}


def test_every_signal_of_a_hinge_game() -> None:
    baselines = Baselines()
    for _ in range(BASELINE_TICKS):
        early = signals(SCORES, equilibrium=HINGE, baselines=baselines, steps=8, skipped_steps=2, sigmas={"a": 2.0})
    assert early == pytest.approx(
        {
            "skipped_share": 0.25,
            "discriminator_loss_share": 0.25,  # 0.5 of 2
            "sign_real": 0.7,
            "augment_p": 0.2,
            "gradient_imbalance": 2.0,
        }
    )
    scores = SCORES | {"logits/real": 7.0, "logits/fake": -1.0}
    again = Baselines()
    again.load_state(baselines.state())
    late = signals(scores, equilibrium=HINGE, baselines=again, steps=8, skipped_steps=0, sigmas={"a": 5.0})
    assert late["logit_gap_growth"] == pytest.approx(4.0)
    assert late["singular_value_growth"] == pytest.approx(2.5)


def test_signals_without_meaning_are_left_out() -> None:
    common = {"baselines": Baselines(), "steps": 1, "skipped_steps": 0}
    critic = signals(SCORES, equilibrium=Wasserstein().equilibrium, **common)
    assert {"sign_real", "discriminator_loss_share"}.isdisjoint(critic)
    relative = signals(SCORES, equilibrium=RelativisticPairing().equilibrium, **common)
    assert "sign_real" not in relative, "only differences of logits mean anything"
    assert relative["discriminator_loss_share"] == pytest.approx(0.5 / math.log(2))
    assert signals({}, equilibrium=HINGE, **common | {"steps": 0}) == {}


def test_singular_values_are_those_of_the_raw_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(spectral_norm(nn.Linear(6, 4)), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        network[0].parametrizations.weight.original.mul_(30)
    power_iteration(network, steps=200)
    found = singular_values(network)
    expected = torch.linalg.svdvals(network[0].parametrizations.weight.original.detach())[0]
    assert list(found.values()) == pytest.approx([expected.item()], rel=1e-5)
    assert singular_values(nn.Linear(2, 2)) == {}


def test_spread_is_the_distance_between_pairs() -> None:
    torch.manual_seed(0)
    images = torch.rand(7, 3, 5, 6) * 255
    pairs = [(a - b).double().square().mean() for i, a in enumerate(images) for b in images[i + 1 :]]
    assert spread(images)[0] == pytest.approx(float(torch.stack(pairs).mean().sqrt()))
    assert spread(images.to(torch.uint8)).keys() == {0}
    assert spread(images[:3]) == {}, "too few to say anything"


def test_diversity_sees_a_class_that_has_collapsed() -> None:
    torch.manual_seed(0)
    labels = torch.arange(3).repeat_interleave(50)
    real = torch.rand(150, 1, 8, 8)
    fake = torch.rand(150, 1, 8, 8)
    healthy = diversity(spread(fake, labels), spread(real, labels))
    # The spread's relative error with 50 images of 64 independent pixels is about 1 / sqrt(2 * 50 * 64) = 1.3 %.
    assert healthy["diversity"] == pytest.approx(1.0, abs=0.06)
    assert healthy["diversity_of_worst_class"] == pytest.approx(1.0, abs=0.1)
    fake[labels == 1] = fake[0].clone()
    collapsed = diversity(spread(fake, labels), spread(real, labels))
    assert collapsed["diversity_of_worst_class"] == 0.0
    assert collapsed["diversity"] == pytest.approx(2 / 3, abs=0.06)
    assert diversity({}, spread(real, labels)) == {}
    assert diversity({0: 1.0}, {0: 2.0}) == {"diversity": 0.5}, "one class: its own worst"
