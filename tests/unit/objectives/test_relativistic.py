import pytest
import torch
from torch import Tensor

from framework import Alternating
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.relativistic import RelativisticAverage, RelativisticCentered, RelativisticPairing
from framework.recipe.description import describe, science
from framework.utils.errors import FrameworkError
from tests.helpers.play import smooth_recipe

REAL = torch.tensor([0.3, -1.2, 2.5], dtype=torch.float64)
FAKE = torch.tensor([-0.4, 1.7, 0.1], dtype=torch.float64)
LOSSES: list[AdversarialLoss] = [
    RelativisticPairing(),
    *(RelativisticAverage(kind=kind) for kind in ("logistic", "least_squares", "hinge")),
    *(RelativisticPairing(kind=kind) for kind in ("least_squares", "hinge")),
    *(RelativisticCentered(kind=kind) for kind in ("logistic", "least_squares", "hinge")),
]


def log_sigmoid(x: Tensor) -> Tensor:
    return (1 / (1 + (-x).exp())).log()


def test_formulas_of_the_papers() -> None:
    real, fake = REAL - FAKE.mean(), FAKE - REAL.mean()
    centre = (REAL.sum() + FAKE.sum()) / 6
    high, low = REAL - centre, FAKE - centre
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
        (((REAL - FAKE - 1) ** 2).mean(), ((FAKE - REAL - 1) ** 2).mean()),
        ((1 - REAL + FAKE).clamp(min=0).mean(), (1 - FAKE + REAL).clamp(min=0).mean()),
        (
            -log_sigmoid(high).mean() - log_sigmoid(-low).mean(),
            -log_sigmoid(low).mean() - log_sigmoid(-high).mean(),
        ),
        (
            ((high - 1) ** 2).mean() + ((low + 1) ** 2).mean(),
            ((low - 1) ** 2).mean() + ((high + 1) ** 2).mean(),
        ),
        (
            (1 - high).clamp(min=0).mean() + (1 + low).clamp(min=0).mean(),
            (1 - low).clamp(min=0).mean() + (1 + high).clamp(min=0).mean(),
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


@pytest.mark.parametrize("kind", ["logistic", "least_squares", "hinge"])
def test_conventions_weigh_the_papers_losses(kind: str) -> None:
    average, halved = RelativisticAverage(kind=kind), RelativisticAverage(kind=kind, convention="relativistic_gan")
    assert halved.discriminator(REAL, FAKE) == 0.5 * average.discriminator(REAL, FAKE)
    assert halved.generator(FAKE, REAL) == 0.5 * average.generator(FAKE, REAL)
    pairs = RelativisticPairing(kind=kind)
    doubled = RelativisticPairing(kind=kind, convention="relativistic_f_divergences")
    assert doubled.discriminator(REAL, FAKE) == 2 * pairs.discriminator(REAL, FAKE)
    assert doubled.generator(FAKE, REAL) == pairs.generator(FAKE, REAL)
    for loss in (average, halved, pairs, doubled):
        assert loss.equilibrium.discriminator_loss == pytest.approx(float(loss.discriminator(REAL * 0, FAKE * 0)))


def test_fields_that_were_added_do_not_change_the_science_of_earlier_recipes() -> None:
    def loss(loss: AdversarialLoss) -> object:
        return science(smooth_recipe(game=Alternating(loss=loss, fake_labels="real")))["game"]["loss"]

    assert loss(RelativisticPairing()) == {"type": "RelativisticPairing"}
    assert loss(RelativisticAverage()) == {"type": "RelativisticAverage", "kind": "logistic"}
    assert loss(RelativisticAverage(convention="relativistic_gan"))["convention"] == "relativistic_gan"
    described = describe(smooth_recipe(game=Alternating(loss=RelativisticPairing(), fake_labels="real")))
    assert described["game"]["loss"] == {"type": "RelativisticPairing", "kind": "logistic", "convention": "paper"}


@pytest.mark.parametrize("cls", [RelativisticPairing, RelativisticAverage, RelativisticCentered])
def test_an_unknown_kind_or_convention_is_named(cls: type) -> None:
    with pytest.raises(FrameworkError, match="kind='wgan' must be one of 'logistic', 'least_squares', 'hinge'"):
        cls(kind="wgan")
    if cls is not RelativisticCentered:
        with pytest.raises(FrameworkError, match="convention='programs' must be one of 'paper', 'relativistic_"):
            cls(convention="programs")


def test_a_game_takes_them() -> None:
    assert Alternating(loss=RelativisticPairing(), fake_labels="real").loss.needs_real_logits
