import dataclasses
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from framework.networks import sagan
from framework.objectives.penalties import (
    R1,
    R2,
    Drift,
    GradientPenalty,
    Orthogonal,
    Penalty,
    drift,
    gradient_penalty,
    input_gradient,
    orthogonal,
    r1,
    r2,
)
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


@pytest.fixture
def inputs() -> TermInputs:
    torch.manual_seed(0)
    network = Critic()
    real, fake = torch.randn(2, 3, 1, 3, 3, dtype=torch.float64)
    labels, fake_labels = torch.tensor([0, 1, 2]), torch.tensor([2, 2, 0])
    return TermInputs(
        network=network,
        real=real,
        fake=fake,
        labels=labels,
        fake_labels=fake_labels,
        real_logits=network(real, labels),
        fake_logits=network(fake, fake_labels),
        discriminate=network,
        draw=Given({"gradient_penalty": torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)}),
    )


def slopes(network: nn.Module, images: Tensor, labels: Tensor, *, step: float = 1e-6) -> Tensor:
    """Each logit's gradient in its image by central differences."""
    columns = []
    for index in range(images[0].numel()):
        offset = torch.zeros_like(images).flatten(1)
        offset[:, index] = step
        offset = offset.view_as(images)
        columns.append((network(images + offset, labels) - network(images - offset, labels)) / (2 * step))
    return torch.stack(columns, dim=1).detach()


def test_input_gradients_by_finite_differences(inputs: TermInputs) -> None:
    ours = input_gradient(inputs.network, inputs.real, inputs.labels)
    assert ours.shape == inputs.real.shape
    torch.testing.assert_close(ours.flatten(1), slopes(inputs.network, inputs.real, inputs.labels))


def test_values_from_slopes(inputs: TermInputs) -> None:
    network, real, fake = inputs.network, inputs.real, inputs.fake
    at_real = slopes(network, real, inputs.labels).square().sum(1)
    at_fake = slopes(network, fake, inputs.fake_labels).square().sum(1)
    torch.testing.assert_close(r1(network, real, inputs.labels), at_real.mean())
    torch.testing.assert_close(r2(network, fake, inputs.fake_labels), at_fake.mean())
    torch.testing.assert_close(R1(weight=3.0)(inputs), 3.0 / 2 * at_real.mean())
    torch.testing.assert_close(R2(weight=3.0)(inputs), 3.0 / 2 * at_fake.mean())

    alpha = inputs.draw.uniform("gradient_penalty")
    share = alpha[:, None, None, None]
    norms = slopes(network, share * real + (1 - share) * fake, inputs.labels).norm(dim=1)
    torch.testing.assert_close(GradientPenalty()(inputs), 10 * ((norms - 1) ** 2).mean())
    progan = GradientPenalty(weight=10, target=750)(inputs)
    torch.testing.assert_close(progan, 10 * ((norms - 750) ** 2).mean() / 750**2)
    centred = gradient_penalty(network, real, fake, inputs.labels, alpha=alpha, target=0)
    torch.testing.assert_close(centred, norms.square().mean())

    torch.testing.assert_close(Drift()(inputs), 1e-3 * inputs.real_logits.square().mean())


PENALTIES: list[Penalty] = [
    R1(weight=2.0),
    R2(weight=2.0),
    GradientPenalty(),
    Orthogonal(weight=0.1),
    Orthogonal(weight=0.1, modified=False),
]


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_parameter_gradients_by_finite_differences(penalty: Penalty, inputs: TermInputs) -> None:
    network = inputs.network
    names = [name for name, _ in network.named_parameters()]

    def value(*parameters: Tensor) -> Tensor:
        class Bound(nn.Module):
            """The network as a function of parameters given from outside."""

            def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
                state = dict(zip(names, parameters, strict=True))
                return torch.func.functional_call(network, state, (images, labels))

            def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
                return iter(parameters)

        return penalty(dataclasses.replace(inputs, network=Bound()))

    parameters = tuple(parameter.detach().clone().requires_grad_(True) for parameter in network.parameters())
    assert torch.autograd.gradcheck(value, parameters)


def test_gradients_at_a_flat_critic_are_finite() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0))
    nn.init.zeros_(network[1].weight)
    real, fake = torch.randn(2, 3, 1, 2, 2)
    loss = gradient_penalty(lambda images, labels: network(images), real, fake, alpha=torch.rand(3))
    loss.backward()
    assert loss.item() == 1
    assert torch.isfinite(network[1].weight.grad).all()


def test_fake_images_receive_no_gradient(inputs: TermInputs) -> None:
    fake = inputs.fake.clone().requires_grad_(True)
    for penalty in (R2(weight=1.0), GradientPenalty()):
        penalty(dataclasses.replace(inputs, fake=fake)).backward()
    assert fake.grad is None


def test_penalties_run_through_spectral_norm_and_attention() -> None:
    torch.manual_seed(0)
    network = sagan.Discriminator(resolution=32, classes=3, width=4, attention_at=16)
    nn.init.ones_(network.attention.gamma)
    labels = torch.tensor([0, 2])
    images = torch.randn(2, 3, 32, 32)
    r1(network, images, labels).backward()
    weights = {name: p.grad for name, p in network.named_parameters() if p.dim() > 1}
    assert all(gradient is not None and gradient.any() for gradient in weights.values())


def test_half_precision_images_have_full_precision_penalties() -> None:
    torch.manual_seed(0)
    network = sagan.Discriminator(resolution=32, width=4)
    images = torch.randn(2, 3, 32, 32).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = r1(network, images)
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty, r1(network, images.float()), rtol=0.05, atol=0)


@pytest.mark.parametrize("modified", [True, False])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 3, 2, 2), (30, 2)])
def test_orthogonal_by_its_formula(shape: tuple[int, ...], modified: bool) -> None:
    torch.manual_seed(0)
    network = nn.ParameterDict({"weight": torch.randn(shape, dtype=torch.float64), "bias": torch.randn(7)})
    rows = network["weight"].flatten(1)
    gram = rows @ rows.T
    eye = torch.eye(len(rows), dtype=torch.float64)
    excess = gram * (1 - eye) if modified else gram - eye
    torch.testing.assert_close(orthogonal(network, modified=modified), 0.5 * excess.square().sum())


def test_orthogonal_is_zero_at_orthogonal_rows() -> None:
    network = nn.Linear(6, 4, bias=False)
    nn.init.orthogonal_(network.weight)
    assert orthogonal(network, modified=False).item() == pytest.approx(0, abs=1e-10)
    with torch.no_grad():
        network.weight *= 3
    assert orthogonal(network).item() == pytest.approx(0, abs=1e-8)
    assert orthogonal(network, modified=False).item() == pytest.approx(0.5 * 4 * 64, rel=1e-5)
    assert orthogonal(nn.ReLU()).item() == 0


def test_orthogonal_leaves_out_what_is_named() -> None:
    torch.manual_seed(0)
    network = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "linear": nn.Linear(3, 4)})
    alone = orthogonal(network["linear"])
    torch.testing.assert_close(orthogonal(network, exclude=("embedding",)), alone)
    assert orthogonal(network).item() > alone.item() + 0.1


def test_lazy_penalties_keep_their_average_strength(inputs: TermInputs) -> None:
    lazy, steady = R1(weight=1.0, every=16), R1(weight=1.0)
    assert [turn for turn in range(40) if lazy.due(turn)] == [0, 16, 32]
    assert all(steady.due(turn) for turn in range(5))
    torch.testing.assert_close(lazy(inputs), 16 * steady(inputs))


def test_drift_widens_half_precision_logits() -> None:
    assert drift(torch.full((2,), 300.0, dtype=torch.float16)).item() == 90_000


def test_which_penalties_need_second_derivatives() -> None:
    assert [kind.needs_second_derivative for kind in (R1, R2, GradientPenalty, Drift, Orthogonal)] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: R1(weight=-1.0), "R1: weight=-1.0 must be finite and at least 0"),
        (lambda: R1(weight=math.nan), "R1: weight=nan"),
        (lambda: Drift(every=0), "Drift: every=0 must be at least 1 turn"),
        (lambda: GradientPenalty(target=-1.0), "GradientPenalty: target=-1.0"),
    ],
)
def test_wrong_arguments_are_named(build: object, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        build()


def test_a_penalty_in_the_wrong_turn_says_what_it_misses() -> None:
    generators_turn = TermInputs(network=Critic(), discriminate=Critic(), fake=torch.zeros(1, 1, 3, 3), draw=Given())
    with pytest.raises(FrameworkError, match="R1 needs real images, which this player's turn does not have"):
        R1(weight=1.0)(generators_turn)
    with pytest.raises(FrameworkError, match="Drift needs logits of real images"):
        Drift()(generators_turn)
