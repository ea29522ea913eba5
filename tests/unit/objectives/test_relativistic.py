import pytest
import torch
from torch import Tensor

from framework import Alternating
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.relativistic import RelativisticAverage, RelativisticPairing
from framework.utils.errors import FrameworkError

REAL = torch.tensor([0.3, -1.2, 2.5], dtype=torch.float64)
FAKE = torch.tensor([-0.4, 1.7, 0.1], dtype=torch.float64)
LOSSES: list[AdversarialLoss] = [
    RelativisticPairing(),
    *(RelativisticAverage(kind=kind) for kind in ("logistic", "least_squares", "hinge")),
]


def log_sigmoid(x: Tensor) -> Tensor:
    return (1 / (1 + (-x).exp())).log()


def test_formulas_of_the_papers() -> None:
    real, fake = REAL - FAKE.mean(), FAKE - REAL.mean()
    expected = [
        (-log_sigmoid(REAL - FAKE).mean(), -log_sigmoid(FAKE - REAL).mean()),
        (
            -log_sigmoid(real).mean() - log_sigmoid(-fake).mean(),
            -log_sigmoid(fake).mean() - log_sigmoid(-real).mean(),
        ),
        (
            ((real - 1) ** 2).mean() + ((fake + 1) ** 2).mean(),
            ((fake - 1) ** 2).mean() + ((real + 1) ** 2).mean(),
        ),
        (
            (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean(),
            (1 - fake).clamp(min=0).mean() + (1 + real).clamp(min=0).mean(),
        ),
    ]
    for loss, (discriminator, generator) in zip(LOSSES, expected, strict=True):
        torch.testing.assert_close(loss.discriminator(REAL, FAKE), discriminator)
        torch.testing.assert_close(loss.generator(FAKE, REAL), generator)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_gradients_by_finite_differences(loss: AdversarialLoss) -> None:
    real, fake = REAL.clone().requires_grad_(True), FAKE.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(loss.discriminator, (real, fake))
    assert torch.autograd.gradcheck(loss.generator, (fake, real))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_only_differences_count(loss: AdversarialLoss) -> None:
    assert loss.needs_real_logits
    torch.testing.assert_close(loss.discriminator(REAL + 5, FAKE + 5), loss.discriminator(REAL, FAKE))
    torch.testing.assert_close(loss.generator(FAKE + 5, REAL + 5), loss.generator(FAKE, REAL))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_players_swap_sides(loss: AdversarialLoss) -> None:
    torch.testing.assert_close(loss.generator(FAKE, REAL), loss.discriminator(FAKE, REAL))


def test_pairs_of_parts_of_a_batch_combine_by_their_shares() -> None:
    loss = RelativisticPairing()
    parts = 1 / 3 * loss.discriminator(REAL[:1], FAKE[:1]) + 2 / 3 * loss.discriminator(REAL[1:], FAKE[1:])
    torch.testing.assert_close(parts, loss.discriminator(REAL, FAKE))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_half_precision_logits_are_widened_and_extremes_stay_finite(loss: AdversarialLoss) -> None:
    logits = torch.tensor([200.0, -200.0, 0.1], dtype=torch.bfloat16, requires_grad=True)
    total = loss.discriminator(logits, logits.flip(0)) + loss.generator(logits, logits.flip(0))
    assert total.dtype == torch.float32
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(FrameworkError, match="kind='wgan' must be one of: logistic, least_squares, hinge"):
        RelativisticAverage(kind="wgan")


def test_a_game_takes_them() -> None:
    assert Alternating(loss=RelativisticPairing(), fake_labels="real").loss.needs_real_logits
