"""The finite-difference R1 against what can be worked out: linear and quadratic discriminators, and its variance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from framework.objectives.first_order import FirstOrderR1, first_order_r1
from framework.objectives.penalties import R1, r1
from framework.objectives.terms import TermInputs
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Seeded

SHAPE = (1, 2, 2)
DRAWS = 40_000


def noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, *SHAPE, generator=generator, dtype=torch.float64)


def quadratic(scale: float) -> tuple[Tensor, Tensor]:
    """g (4,) and a symmetric H (4, 4) of D(x) = g x + x H x / 2."""
    generator = torch.Generator().manual_seed(1)
    g, a = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((4,), (4, 4)))
    return g, scale * (a + a.T)


def discriminator(g: Tensor, h: Tensor):
    def logits(images: Tensor, labels: Tensor | None) -> Tensor:
        x = images.flatten(1)
        return x @ g + 0.5 * ((x @ h) * x).sum(1)

    return logits


@pytest.mark.parametrize("sigma", [1.0, 1e-3])
def test_a_linear_discriminator_is_measured_exactly_in_expectation(sigma: float) -> None:
    g, _ = quadratic(0.0)
    network, images = discriminator(g, torch.zeros(4, 4, dtype=torch.float64)), torch.zeros(1, *SHAPE).double()
    draws = noise(2000, 1)
    samples = torch.stack([first_order_r1(network, images, noise=eps[None], sigma=sigma) for eps in draws])
    exact = r1(network, images).item()
    assert exact == pytest.approx(float(g @ g))
    # (g eps)^2 is |g|^2 times a chi-squared value with one degree of freedom: mean 1, variance 2.
    mean, spread = float(samples.mean()) / exact, float(samples.std()) / exact
    print(f"sigma {sigma}: mean {mean:.3f} of |g|^2, standard deviation {spread:.3f} (theory 1, {math.sqrt(2):.3f})")
    assert mean == pytest.approx(1.0, abs=5 * math.sqrt(2 / 2000))
    assert spread == pytest.approx(math.sqrt(2), rel=0.2)  # the standard error of a chi-squared's deviation is 4 %
    # Along an orthogonal frame instead of random directions there is no noise: sums of squares are |g|^2 itself.
    frame = torch.eye(4, dtype=torch.float64).view(4, 1, *SHAPE)
    total = 4 * first_order_r1(network, images, noise=frame, sigma=sigma)
    assert total.item() == pytest.approx(exact, rel=1e-10)


def test_the_bias_of_a_quadratic_discriminator_is_what_the_docstring_says() -> None:
    g, h = quadratic(0.5)
    network, images = discriminator(g, h), torch.zeros(DRAWS, *SHAPE).double()  # one draw for each of many equal images
    exact = r1(network, images).item()
    draws = noise(DRAWS)
    antithetic = torch.stack([draws, -draws])  # cancels the odd term, whose mean is 0 and whose variance is large
    for sigma in (0.3, 0.6):
        found = first_order_r1(network, images, noise=antithetic, sigma=sigma).item() - exact
        expected = sigma**2 / 4 * float(h.trace() ** 2 + 2 * h.square().sum())
        # What the sampling leaves: the deviation of (g eps)^2 + sigma^2 (eps H eps)^2 / 4 over the draws.
        eps = draws.view(DRAWS, 4)
        values = (eps @ g).square() + sigma**2 / 4 * ((eps @ h) * eps).sum(1).square()
        error = 5 * float(values.std()) / math.sqrt(DRAWS)
        print(f"sigma {sigma}: bias {found:.3f}, theory {expected:.3f}, sampling error {error:.3f}")
        assert found == pytest.approx(expected, abs=error)
        assert expected > 3 * error  # so that a missing bias would be seen


def test_its_gradient_is_that_of_the_exact_penalty_in_expectation() -> None:
    g, _ = quadratic(0.0)
    zero, images = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(2, *SHAPE).double()
    g.requires_grad_(True)
    frame = (2.0 * torch.eye(4, dtype=torch.float64)).view(4, 1, *SHAPE).expand(4, 2, *SHAPE)
    # Four directions of squared length 4: their mean of (g eps)^2 is |g|^2.
    (estimate,) = torch.autograd.grad(first_order_r1(discriminator(g, zero), images, noise=frame, sigma=0.1), g)
    (exact,) = torch.autograd.grad(r1(discriminator(g, zero), images), g)
    torch.testing.assert_close(estimate, exact)


def test_the_weight_means_what_it_means_in_r1_and_draws_go_by_position() -> None:
    g, h = quadratic(0.1)
    network = discriminator(g, h)
    images = torch.linspace(-1, 1, 6 * 4, dtype=torch.float64).view(6, *SHAPE)

    def penalty(rows: slice, **options: float) -> Tensor:
        draw = Seeded(batch_size=6, rows=rows)
        term = FirstOrderR1(weight=3.0, every=2, num_draws=500, **options)
        assert not term.needs_second_derivative
        return term(TermInputs(network=torch.nn.Identity(), discriminate=network, draw=draw, real=images[rows]))

    whole, exact = penalty(slice(None)), R1(weight=3.0, every=2)
    reference = exact(
        TermInputs(network=torch.nn.Identity(), discriminate=network, draw=Seeded(batch_size=6), real=images)
    )
    # 3000 draws in all: five standard errors are 5 * sqrt(2 / 3000) = 13 %.
    assert whole.item() == pytest.approx(reference.item(), rel=0.13)
    parts = penalty(slice(0, 2)) * 2 / 6 + penalty(slice(2, 6)) * 4 / 6
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=0)
    assert penalty(slice(None), sigma=0.02).item() != whole.item()


def test_more_draws_lower_the_variance() -> None:
    g, h = quadratic(0.1)
    network, images = discriminator(g, h), torch.zeros(1, *SHAPE).double()
    draws = noise(8_000, 1)

    def spread(size: int) -> float:
        values = [first_order_r1(network, images, noise=part, sigma=0.01) for part in draws.split(size)]
        return float(torch.stack(values[:500]).std())

    one, sixteen = spread(1), spread(16)
    print(f"standard deviation with 1 draw {one:.2f}, with 16 {sixteen:.2f}: {one / sixteen:.1f} times less (theory 4)")
    assert one / sixteen == pytest.approx(4.0, rel=0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma=0.0 must be a positive number"),
        ({"sigma": math.nan}, "sigma=nan"),
        ({"num_draws": 0}, "num_draws=0 must be at least 1"),
        ({"weight": -1.0}, "weight=-1.0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        FirstOrderR1(**{"weight": 1.0} | options)
