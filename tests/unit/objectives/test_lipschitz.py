import pytest
import torch
from torch import Tensor, nn

from framework.objectives.lipschitz import Dragan, MaxGradientPenalty, max_gradient_penalty
from framework.objectives.penalties import gradient_penalty
from framework.objectives.terms import TermInputs
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Given


class Critic(nn.Module):
    """Smooth, tiny, conditional, float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 2)
        self.second = nn.Linear(2, 3)
        self.double()

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        scores = self.second(torch.tanh(self.first(images)).mean((2, 3)).sin())
        return scores[:, 0] if labels is None else scores.gather(1, labels[:, None])[:, 0]


ALPHA = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)


@pytest.fixture
def inputs() -> TermInputs:
    torch.manual_seed(0)
    network = Critic()
    real, fake, noise = torch.randn(3, 3, 1, 3, 3, dtype=torch.float64)
    draws = {"max_gradient_penalty": ALPHA, "dragan/alpha": ALPHA, "dragan/noise": noise.sigmoid()}
    return TermInputs(
        network=network, discriminate=network, draw=Given(draws), real=real, fake=fake, labels=torch.tensor([0, 1, 2])
    )


def squared_norms(inputs: TermInputs) -> Tensor:
    """Of the gradients at the interpolates, one image at a time."""
    found = []
    for real, fake, label, share in zip(inputs.real, inputs.fake, inputs.labels, ALPHA, strict=True):
        x = (share * real + (1 - share) * fake)[None].requires_grad_(True)
        (gradient,) = torch.autograd.grad(inputs.network(x, label[None]).sum(), x, create_graph=True)
        found.append(gradient.square().sum())
    return torch.stack(found)


def test_the_maximum_is_that_of_single_images(inputs: TermInputs) -> None:
    penalty = MaxGradientPenalty(weight=3)(inputs)
    expected = 3 * squared_norms(inputs).max()
    torch.testing.assert_close(penalty, expected)
    parameters = list(inputs.network.parameters())
    for mine, reference in zip(
        torch.autograd.grad(penalty, parameters, allow_unused=True),
        torch.autograd.grad(expected, parameters, allow_unused=True),
        strict=True,
    ):
        assert (mine is None) == (reference is None)
        if mine is not None:
            torch.testing.assert_close(mine, reference)


def test_equal_maxima_share_the_gradient() -> None:
    torch.manual_seed(0)
    network = Critic()
    image = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    alpha = torch.ones(1, dtype=torch.float64)
    once = max_gradient_penalty(network, image, image, alpha=alpha)
    twice = max_gradient_penalty(network, image.repeat(2, 1, 1, 1), image.repeat(2, 1, 1, 1), alpha=alpha.repeat(2))
    torch.testing.assert_close(once, twice)
    weight = network.first.weight
    torch.testing.assert_close(torch.autograd.grad(once, weight), torch.autograd.grad(twice, weight))


def test_dragan_is_a_gradient_penalty_around_real_images(inputs: TermInputs) -> None:
    noise = inputs.draw.uniform("dragan/noise", 1, 3, 3)
    perturbed = inputs.real + 0.25 * inputs.real.std() * noise
    expected = gradient_penalty(inputs.discriminate, perturbed, inputs.real, inputs.labels, alpha=ALPHA)
    torch.testing.assert_close(Dragan(weight=2, spread=0.25)(inputs), 2 * expected)


def test_both_are_taken_behind_the_augmentation(inputs: TermInputs) -> None:
    # The judge, not the raw network: an augmentation that mirrors changes the value.
    mirrored = TermInputs(
        network=inputs.network,
        discriminate=lambda images, labels: 2 * inputs.network(images, labels),
        draw=inputs.draw,
        real=inputs.real,
        fake=inputs.fake,
        labels=inputs.labels,
    )
    torch.testing.assert_close(MaxGradientPenalty()(mirrored), 4 * MaxGradientPenalty()(inputs))
    assert not torch.allclose(Dragan()(mirrored), Dragan()(inputs))


def test_parameters_second_derivatives_by_finite_differences(inputs: TermInputs) -> None:
    weight = inputs.network.first.weight

    def through(values: Tensor, penalty: MaxGradientPenalty | Dragan) -> Tensor:
        def discriminate(images: Tensor, labels: Tensor | None) -> Tensor:
            return torch.func.functional_call(inputs.network, {"first.weight": values}, (images, labels))

        replaced = TermInputs(
            network=inputs.network,
            discriminate=discriminate,
            draw=inputs.draw,
            real=inputs.real,
            fake=inputs.fake,
            labels=inputs.labels,
        )
        return penalty(replaced)

    values = weight.detach().clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: through(v, MaxGradientPenalty()), values)
    assert torch.autograd.gradcheck(lambda v: through(v, Dragan()), values)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(FrameworkError, match=r"Dragan: spread=-1\.0 must be finite and at least 0"):
        Dragan(spread=-1.0)
    without_fake = TermInputs(network=None, discriminate=None, draw=Given(), real=torch.zeros(1, 1, 3, 3))
    with pytest.raises(FrameworkError, match="MaxGradientPenalty needs generated images"):
        MaxGradientPenalty()(without_fake)
    with pytest.raises(FrameworkError, match="Dragan needs real images"):
        Dragan()(TermInputs(network=None, discriminate=None, draw=Given()))
