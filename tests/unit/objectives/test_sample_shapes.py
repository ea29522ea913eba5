"""Penalties on samples of any shape: closed forms of linear and quadratic critics, and unchanged bits on images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from framework.objectives.first_order import FirstOrderR1
from framework.objectives.lecam import LeCam
from framework.objectives.lipschitz import Dragan, MaxGradientPenalty
from framework.objectives.path_length import PathLength, path_lengths
from framework.objectives.penalties import (
    R1,
    R2,
    Drift,
    GradientPenalty,
    Penalty,
    gradient_penalty,
    input_gradient,
    interpolated,
    r1,
)
from framework.objectives.relativistic import RelativisticAverage
from framework.objectives.terms import TermInputs
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Given

SHAPES = [(5,), (5, 2), (5, 3, 4), (5, 1, 4, 4), (2, 3, 4, 5, 6)]
SPREAD, SIGMA = 0.25, 0.1


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def per_sample(values: Tensor) -> Tensor:
    """The sum over a sample's numbers, one sample at a time."""
    return torch.stack([row.sum() for row in values])


class Critic:
    """`D(x) = <g, x> + <c, x^2> / 2`, whose gradient is `g + c x`; linear with c = 0."""

    def __init__(self, shape: tuple[int, ...], *, quadratic: bool) -> None:
        self.g, self.c = drawn(shape[1:], 1), drawn(shape[1:], 2) * quadratic

    def __call__(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        return per_sample(self.g * samples + 0.5 * self.c * samples.square())

    def squared_norms(self, samples: Tensor) -> Tensor:
        """Of the gradient in each sample, worked out by hand."""
        return per_sample((self.g + self.c * samples).square())


@pytest.mark.parametrize("quadratic", [False, True], ids=["linear", "quadratic"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_penalties_by_their_closed_forms(shape: tuple[int, ...], quadratic: bool) -> None:
    critic, real, fake = Critic(shape, quadratic=quadratic), drawn(shape, 3), drawn(shape, 4)
    shares, step = drawn((shape[0],), 5).sigmoid(), drawn(shape, 6)
    draws = {"gradient_penalty": shares, "max_gradient_penalty": shares, "dragan/alpha": shares}
    draws |= {"dragan/noise": drawn(shape, 7).sigmoid(), "first_order_r1/0": step}
    inputs = TermInputs(
        network=nn.Identity(),
        discriminate=critic,
        draw=Given(draws),
        real=real,
        fake=fake,
        real_logits=critic(real),
        fake_logits=critic(fake),
    )
    between = torch.stack([s * a + (1 - s) * b for s, a, b in zip(shares, real, fake, strict=True)])
    perturbed = real + SPREAD * real.std() * draws["dragan/noise"]
    around = torch.stack([s * a + (1 - s) * b for s, a, b in zip(shares, perturbed, real, strict=True)])
    moved = critic(real + SIGMA * step) - critic(real)
    above, below = critic(real) - critic(fake).mean(), critic(real).mean() - critic(fake)
    expected: dict[Penalty, Tensor] = {
        R1(weight=2.0): critic.squared_norms(real).mean(),
        R2(weight=2.0): critic.squared_norms(fake).mean(),
        GradientPenalty(weight=1.0): (critic.squared_norms(between).sqrt() - 1).square().mean(),
        GradientPenalty(weight=1.0, target=0.0): critic.squared_norms(between).mean(),
        MaxGradientPenalty(weight=1.0): critic.squared_norms(between).max(),
        Dragan(weight=1.0, spread=SPREAD): (critic.squared_norms(around).sqrt() - 1).square().mean(),
        FirstOrderR1(weight=2.0, sigma=SIGMA): (moved / SIGMA).square().mean(),
        Drift(weight=1.0): critic(real).square().mean(),
        LeCam(weight=1.0): above.relu().square().mean() + below.relu().square().mean(),
    }
    for penalty, value in expected.items():
        torch.testing.assert_close(penalty(inputs), value, msg=lambda text, p=penalty: f"{p}: {text}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_interpolation_takes_one_share_per_sample(shape: tuple[int, ...]) -> None:
    real, fake = torch.ones(shape), torch.zeros(shape)
    shares = torch.linspace(0, 1, shape[0])
    mixed = interpolated(real, fake, shares)
    assert mixed.shape == shape
    for row, share in zip(mixed, shares, strict=True):
        assert torch.equal(row, torch.full(shape[1:], float(share)))


def test_interpolation_refuses_what_broadcasting_would_mix() -> None:
    with pytest.raises(FrameworkError, match=r"real samples have the shape \(5, 2\) and generated ones \(5, 1, 2\)"):
        interpolated(torch.zeros(5, 2), torch.zeros(5, 1, 2), torch.zeros(5))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_bits_on_images_are_those_of_the_sum_over_three_axes(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 1), nn.Flatten(0))
    real, fake = (torch.randn(4, 3, 16, 16).to(memory_format=layout) for _ in range(2))
    shares = torch.rand(4)

    def discriminate(images: Tensor, labels: Tensor | None) -> Tensor:
        return network(images)

    gradient = input_gradient(discriminate, real, None)
    assert torch.equal(r1(discriminate, real), gradient.square().sum((1, 2, 3)).mean())
    share = shares.view(-1, 1, 1, 1)
    lengths = torch.linalg.vector_norm(
        input_gradient(discriminate, share * real + (1 - share) * fake, None).flatten(1), dim=1
    )
    assert torch.equal(gradient_penalty(discriminate, real, fake, alpha=shares), (lengths - 1).square().mean())


@pytest.mark.parametrize("styles", [(3, 2), (2,)], ids=["three styles", "one style"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_path_lengths_of_a_linear_generator(shape: tuple[int, ...], styles: tuple[int, ...]) -> None:
    jacobian, noise = drawn((styles[-1], *shape[1:]), 1), drawn(shape, 2)
    ws = drawn((shape[0], *styles), 3).requires_grad_(True)
    summed = ws.sum(1) if len(styles) == 2 else ws
    made = torch.stack([torch.tensordot(row, jacobian, 1) for row in summed])
    positions = math.prod(shape[2:])
    # The gradient in every layer's style is the same here, so the root of their mean square is one layer's length.
    expected = [torch.stack([(j * n).sum() / positions**0.5 for j in jacobian]).square().sum().sqrt() for n in noise]
    torch.testing.assert_close(path_lengths(made, ws, noise), torch.stack(expected))


def test_path_length_penalty_of_points() -> None:
    class Points(nn.Module):
        """Points (n, 2) as a fixed linear function of one style per sample."""

        def __init__(self) -> None:
            super().__init__()
            self.mapping, self.synthesis = nn.Identity(), nn.Identity()
            self.mapping.forward = lambda z, labels: z
            self.synthesis.forward = lambda ws: ws @ jacobian

    jacobian, noise = drawn((3, 2), 1), drawn((4, 2), 2)
    inputs = TermInputs(
        network=Points(),
        discriminate=nn.Identity(),
        draw=Given({"path_length/noise": noise}),
        z=drawn((4, 3), 3).requires_grad_(True),
        rows=torch.arange(4),
    )
    lengths = (noise @ jacobian.T).norm(dim=1)
    expected = (lengths - lengths.mean()).square().mean()
    torch.testing.assert_close(PathLength(weight=1.0, every=1, decay=1.0, shrink=1)(inputs), expected)


def test_means_over_logits_count_every_logit() -> None:
    """Logits of patches (N, h, w): a mean is over all of them, not over rows."""
    real, fake = drawn((3, 2, 2), 1), drawn((3, 2, 2), 2)
    for kind in ("logistic", "least_squares", "hinge"):
        loss = RelativisticAverage(kind=kind)
        torch.testing.assert_close(
            loss.discriminator(real, fake), loss.discriminator(real.flatten(), fake.flatten()), msg=kind
        )
    memory: dict[str, Tensor] = {}
    LeCam()(
        TermInputs(
            network=nn.Identity(),
            discriminate=nn.Identity(),
            draw=Given(),
            memory=memory,
            real_logits=real,
            fake_logits=fake,
        )
    )
    torch.testing.assert_close(memory["lecam/real"], real.mean())
