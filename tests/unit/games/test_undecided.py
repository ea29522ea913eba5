"""Signs are measured from the undecided logit of the loss: what a game scores, and what ADA makes of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from framework import FGAN, Ada, Hinge, LeastSquares, RelativisticCentered, RelativisticPairing, SoftLabels, Wasserstein
from framework.games.augmentation import Augmenter
from framework.objectives.adversarial import AdversarialLoss
from tests.helpers.play import steps
from tests.helpers.resting import KullbackLeibler, TakenForZero, constant
from tests.helpers.spawn import run_ranks

ADAPTIVE = Ada(preset="blit", target=0.6, start=0.5, images=48, every=1)
REAL, FAKE = torch.tensor([3.0, 4.0, 5.0, 1.0]), torch.tensor([1.0, 2.0, 0.0, 4.0])


@pytest.mark.parametrize(
    ("loss", "logit", "sign"),
    [
        (Hinge(), 0.25, 1.0),
        (Hinge(), -0.25, -1.0),
        (LeastSquares(), 0.25, -1.0),
        (LeastSquares(), 0.75, 1.0),
        (KullbackLeibler(), 1.0, 0.0),
        (TakenForZero(), 1.0, 1.0),
        (FGAN(divergence="kl"), 1.0, 0.0),
        (FGAN(divergence="kl"), 0.5, -1.0),
        (SoftLabels(), -0.1, 1.0),  # undecided at log(0.45 / 0.55) = -0.2
        (SoftLabels(real=(0.7, 1.2), fake=(0.0, 0.3)), 0.15, -1.0),  # at log(0.55 / 0.45)
    ],
    ids=repr,
)
def test_signs_are_those_of_the_distance_from_the_undecided_logit(
    loss: AdversarialLoss, logit: float, sign: float
) -> None:
    played = constant(loss, logit=logit, augment=ADAPTIVE)
    metrics = steps(played, count=1)
    assert metrics["scores/sign/real"].tolist() == [sign]
    # 12 images of 48 move p by 1/4: up above the target 0.6, down below it.
    assert float(played.game.memory["discriminator"]["augment/p"]) == 0.5 + (0.25 if sign > 0.6 else -0.25)


@pytest.mark.parametrize(
    "loss", [RelativisticPairing(), RelativisticCentered(), FGAN(divergence="total_variation"), Wasserstein()], ids=repr
)
def test_where_only_differences_count_no_sign_is_scored_and_a_shift_changes_nothing(loss: AdversarialLoss) -> None:
    for logit in (-5.0, 5.0):
        played = constant(loss, logit=logit, augment=ADAPTIVE)
        assert "scores/sign/real" not in steps(played, count=1)
        assert float(played.game.memory["discriminator"]["augment/p"]) == 0.25, "undecided: below the target"


def mean_sign(micro_batches: list[tuple[Tensor, Tensor]], *, undecided_logit: float | None) -> Tensor:
    """Of D(real), as ADA takes it after one step of these micro-batches."""
    memory: dict[str, Tensor] = {}
    augmenter = Augmenter(Ada(preset="blit", every=2), memory, undecided_logit=undecided_logit)
    for real, fake in micro_batches:
        augmenter.observe(real, fake)
    augmenter.adjust(step=0, images=8)
    return memory["augment/signs"] / memory["augment/count"]


def test_the_midpoint_stands_in_for_the_undecided_logit() -> None:
    # Means 3.25 and 1.75, midpoint 2.5: above it are 3, 4 and 5, below it 1.
    assert mean_sign([(REAL, FAKE)], undecided_logit=None) == 0.5
    assert mean_sign([(REAL + 100, FAKE + 100)], undecided_logit=None) == 0.5
    assert mean_sign([(REAL[:1], FAKE[:1]), (REAL[1:], FAKE[1:])], undecided_logit=None) == 0.5
    assert mean_sign([(REAL, FAKE)], undecided_logit=3.0) == 0.25
    assert mean_sign([(REAL, FAKE)], undecided_logit=0.0) == 1.0


def parted(cut: int) -> dict[str, Tensor]:
    mine = slice(cut, None) if torch.distributed.get_rank() else slice(cut)
    return {
        "relative": mean_sign([(REAL[mine], FAKE[mine])], undecided_logit=None).clone(),
        "absolute": mean_sign([(REAL[mine], FAKE[mine])], undecided_logit=3.0).clone(),
    }


@pytest.mark.distributed
def test_the_midpoint_is_that_of_all_processes() -> None:
    for rank in run_ranks(parted, 2, 1):
        assert (float(rank["relative"]), float(rank["absolute"])) == (0.5, 0.25)
