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
    Wasserstein,
)

LOSSES: list[AdversarialLoss] = [
    Hinge(),
    NonSaturating(),
    Minimax(),
    Wasserstein(),
    LeastSquares(),
    LeastSquares(real_target=1, fake_target=-1, generator_target=0),
]
REAL = torch.tensor([0.3, -1.2, 2.5], dtype=torch.float64)
FAKE = torch.tensor([-0.4, 1.7], dtype=torch.float64)


def log_sigmoid(x: Tensor) -> Tensor:
    return (1 / (1 + (-x).exp())).log()


def test_formulas_of_the_papers() -> None:
    logistic = -log_sigmoid(REAL).mean() - log_sigmoid(-FAKE).mean()
    expected = [
        ((1 - REAL).clamp(min=0).mean() + (1 + FAKE).clamp(min=0).mean(), -FAKE.mean()),
        (logistic, -log_sigmoid(FAKE).mean()),
        (logistic, log_sigmoid(-FAKE).mean()),
        (FAKE.mean() - REAL.mean(), -FAKE.mean()),
        (((REAL - 1) ** 2).mean() / 2 + (FAKE**2).mean() / 2, ((FAKE - 1) ** 2).mean() / 2),
        (((REAL - 1) ** 2).mean() / 2 + ((FAKE + 1) ** 2).mean() / 2, (FAKE**2).mean() / 2),
    ]
    for loss, (discriminator, generator) in zip(LOSSES, expected, strict=True):
        torch.testing.assert_close(loss.discriminator(REAL, FAKE), discriminator)
        torch.testing.assert_close(loss.generator(FAKE), generator)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_gradients_by_finite_differences(loss: AdversarialLoss) -> None:
    real, fake = REAL.clone().requires_grad_(True), FAKE.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(loss.discriminator, (real, fake))
    assert torch.autograd.gradcheck(loss.generator, fake)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_parts_of_a_batch_combine_by_their_shares(loss: AdversarialLoss) -> None:
    logits = torch.cat([REAL, FAKE])
    parts = 3 / 5 * loss.generator(REAL) + 2 / 5 * loss.generator(FAKE)
    torch.testing.assert_close(parts, loss.generator(logits))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_half_precision_logits_are_widened_and_extremes_stay_finite(loss: AdversarialLoss) -> None:
    logits = torch.tensor([200.0, -200.0, 0.1], dtype=torch.bfloat16, requires_grad=True)
    total = loss.discriminator(logits, logits) + loss.generator(logits)
    assert total.dtype == torch.float32
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


def test_minimax_is_zero_sum_and_non_saturating_is_not() -> None:
    fake = torch.tensor([-8.0], requires_grad=True)
    (saturated,) = torch.autograd.grad(Minimax().generator(fake), fake)
    (steep,) = torch.autograd.grad(NonSaturating().generator(fake), fake)
    (opponent,) = torch.autograd.grad(Minimax().discriminator(torch.zeros(1), fake), fake)
    assert saturated == -opponent
    assert abs(saturated) < 1e-3 < 0.99 < abs(steep)


def test_maximum_likelihood_follows_the_gradient_of_the_likelihood() -> None:
    """With the best discriminator, exp(logit) is p / q: its gradient is that of `-E_p[log q]`.

    The data is p, and the generator a distribution q of three outcomes with parameters `logits`; the generator's loss
    is the score-function estimate of its gradient, `sum q grad(log q) * f` with f = -p / q.
    """
    p = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    parameters = torch.tensor([0.1, -0.4, 0.7], dtype=torch.float64, requires_grad=True)
    log_q = parameters.log_softmax(0)
    per_outcome = torch.stack([MaximumLikelihood().generator(t.view(1)) for t in (p.log() - log_q.detach())])
    (found,) = torch.autograd.grad((log_q.exp().detach() * log_q * per_outcome).sum(), parameters, retain_graph=True)
    (likelihood,) = torch.autograd.grad(-(p * log_q).sum(), parameters)
    torch.testing.assert_close(found, likelihood)


def test_maximum_likelihood_has_the_usual_discriminator_and_wide_logits() -> None:
    half = torch.tensor([8.0, -8.0], dtype=torch.bfloat16)
    assert MaximumLikelihood().generator(half).dtype == torch.float32
    assert torch.equal(MaximumLikelihood().discriminator(REAL, FAKE), NonSaturating().discriminator(REAL, FAKE))
    fake = FAKE.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(MaximumLikelihood().generator, fake)
    torch.testing.assert_close(MaximumLikelihood().generator(FAKE), -FAKE.exp().mean())


def test_none_of_these_compares_with_real_logits() -> None:
    assert not any(loss.needs_real_logits for loss in LOSSES)
