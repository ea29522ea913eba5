"""Where samples are and how far they move, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from framework.objectives.adversarial import Minimax
from framework.sentinels import SENTINELS, Baselines, Health, SentinelStates, signals
from framework.sentinels.motion import MOST_NUMBERS, coarse, kept, moved, shifted, spread_of
from framework.sentinels.signals import BASELINE_TICKS, weak_discriminator

SQUARE = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]], dtype=torch.float64)


def test_the_unit_is_the_distance_of_two_samples() -> None:
    # All ordered pairs of different corners: 8 have the squared distance 4, 4 have 8; 64 / 12.
    assert spread_of(SQUARE) == pytest.approx(math.sqrt(64 / 12))


def test_a_shuffled_generator_has_moved_by_about_one() -> None:
    rows = torch.randn(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shuffled = rows[torch.randperm(4000, generator=torch.Generator().manual_seed(1))]
    # The mean of 4,000 squared distances, whose standard deviation is their mean: 1.6 percent, half of it in the root.
    assert moved(kept(shuffled), kept(rows), spread=spread_of(rows)) == pytest.approx(1.0, abs=0.04)
    assert moved(kept(rows), kept(rows), spread=1.0) == 0.0
    assert moved(kept(rows + torch.tensor([3.0, 4.0])), kept(rows), spread=2.0) == pytest.approx(2.5, rel=1e-4)


def test_what_cannot_be_compared_is_not() -> None:
    rows = kept(SQUARE)
    assert moved(rows, [], spread=1.0) is None
    assert moved(rows, rows[:2], spread=1.0) is None
    assert moved(rows, [[0.0]] * 4, spread=1.0) is None
    assert moved(rows, rows, spread=0.0) is None
    assert shifted([0.0, 3.0], [4.0, 0.0], spread=2.0) == pytest.approx(2.5)
    assert shifted([0.0], [], spread=2.0) is None
    assert shifted([0.0], [1.0], spread=0.0) is None


def test_pictures_count_as_sixteen_pixels_and_vectors_as_they_are() -> None:
    images = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8).to(torch.uint8)
    assert coarse(images).shape == (2, 48)
    assert float(coarse(images)[0, 0]) == images[0, 0, :2, :2].double().mean()
    assert coarse(images[:, :, :2, :2]).shape == (2, 12)
    assert torch.equal(coarse(SQUARE), SQUARE)
    assert coarse(torch.zeros(2, 1000)).shape == (2, MOST_NUMBERS)


def look(loss: float, gradient: float, baselines: Baselines) -> dict[str, float]:
    return signals(
        {"loss/D": loss, "grad_norm/G": gradient},
        equilibrium=Minimax().equilibrium,
        baselines=baselines,
        steps=20,
        skipped_steps=0,
    )


def test_a_gradient_has_vanished_only_where_the_discriminator_wins() -> None:
    baselines, undecided = Baselines(), 2 * math.log(2)
    for _ in range(BASELINE_TICKS):
        assert "generator_gradient" not in look(undecided, 2.0, baselines)
    assert look(0.1, 0.002, baselines)["generator_gradient"] == pytest.approx(0.001)
    assert look(undecided, 0.002, baselines)["generator_gradient"] == 1.0, "it has converged"


def test_an_undecided_discriminator_is_weak_where_samples_are_elsewhere() -> None:
    assert weak_discriminator(1.0, shift=0.4) == 0.4
    assert weak_discriminator(0.9, shift=0.4) == 0.0
    assert weak_discriminator(None, shift=0.4) is None, "a loss without a scale"
    assert weak_discriminator(1.0, shift=None) is None, "data whose place is not known"


@pytest.mark.parametrize(
    ("signal", "bad", "remedy"),
    [
        ("generator_gradient", 0.001, "non-saturating loss, or a Wasserstein loss"),
        ("sample_motion", 0.9, "lower the learning rates"),
        ("weak_discriminator", 0.4, "raise the discriminator's learning rate"),
    ],
)
def test_each_is_named_with_its_remedy_after_looks_that_agree(signal: str, bad: float, remedy: str) -> None:
    watch = SentinelStates(SENTINELS, total_images=1000, step_images=1)
    looks = [watch.observe(images, {signal: bad}) for images in range(600, 1000, 50)]
    assert [bool(changed) for changed in looks].index(True) == 4, "five looks"
    alert = looks[4][0]
    assert alert.health is Health.failing
    assert remedy in alert.remedy
