import copy

import pytest
import torch
from torch import nn

from framework.networks.blocks.init import initialize
from framework.networks.blocks.spectral import power_iteration, spectral_norm, spectral_norms
from framework.utils.errors import FrameworkError

LAYERS = {
    "linear": lambda: nn.Linear(6, 4),
    "conv": lambda: nn.Conv2d(3, 5, 3),
    "transposed": lambda: nn.ConvTranspose2d(3, 5, 3),
    "embedding": lambda: nn.Embedding(7, 4),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_converges_to_the_largest_singular_value(kind: str) -> None:
    torch.manual_seed(0)
    layer = spectral_norm(LAYERS[kind]().double())
    power_iteration(layer, steps=200)
    original = layer.parametrizations.weight.original
    matrix = (original.transpose(0, 1) if kind == "transposed" else original).flatten(1)
    largest = torch.linalg.matrix_norm(matrix, 2)
    assert spectral_norms(layer)["weight"].item() == pytest.approx(largest.item(), rel=1e-9)
    torch.testing.assert_close(layer.weight, original / largest, rtol=1e-9, atol=0)


def test_warmed_up_when_registered() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(64, 64))
    assert 0.9 <= torch.linalg.matrix_norm(layer.weight, 2).item() < 1.1


def test_forward_changes_nothing_and_depends_on_no_mode() -> None:
    layer = spectral_norm(nn.Linear(6, 4))
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(3, 6)
    first, second = layer.train()(x), layer.eval()(x)
    assert torch.equal(first, second)
    after = layer.state_dict()
    assert set(after) == {"bias", *(f"parametrizations.weight.{name}" for name in ("original", "0.u", "0.v"))}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_iterates_v_before_u() -> None:
    layer = spectral_norm(nn.Linear(6, 4), num_warmup=0)
    weight, norm = layer.parametrizations.weight.original.detach(), layer.parametrizations.weight[0]
    u = norm.u.clone()
    power_iteration(layer)
    v = weight.T @ u / (weight.T @ u).norm()
    torch.testing.assert_close(norm.v, v)
    torch.testing.assert_close(norm.u, weight @ v / (weight @ v).norm())


def test_gradients_through_sigma() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(3, 2).double())
    norm = layer.parametrizations.weight[0]
    weight = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, weight)
    assert torch.autograd.gradgradcheck(norm, weight)


def test_iterating_between_forward_and_backward_is_allowed() -> None:
    layer = spectral_norm(nn.Linear(6, 4), num_warmup=0)
    x = torch.randn(3, 6)
    (alone,) = torch.autograd.grad(layer(x).square().sum(), layer.parametrizations.weight.original)
    copied = copy.deepcopy(layer)
    loss = copied(x).square().sum()
    power_iteration(copied)
    (interrupted,) = torch.autograd.grad(loss, copied.parametrizations.weight.original)
    assert torch.equal(alone, interrupted)


def test_copies_are_independent() -> None:
    layer = spectral_norm(nn.Linear(6, 4), num_warmup=0)
    copied = copy.deepcopy(layer)
    power_iteration(copied)
    assert not torch.equal(copied.parametrizations.weight[0].u, layer.parametrizations.weight[0].u)
    assert torch.equal(copied.parametrizations.weight.original, layer.parametrizations.weight.original)


def test_autocast_leaves_sigma_in_full_precision() -> None:
    layer = spectral_norm(nn.Linear(64, 32))
    expected = layer.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.weight, expected)
        power_iteration(layer)
    assert layer.parametrizations.weight[0].u.dtype == torch.float32


def test_norms_are_named_by_their_parameter() -> None:
    network = nn.Sequential(spectral_norm(nn.Linear(6, 4)), nn.ReLU(), nn.Sequential(spectral_norm(nn.Linear(4, 2))))
    norms = spectral_norms(network)
    assert list(norms) == ["0.weight", "2.0.weight"]
    assert all(norm.dim() == 0 and not norm.requires_grad for norm in norms.values())
    power_iteration(nn.Linear(2, 2))  # nothing to do is fine


def test_other_parametrizations_come_first() -> None:
    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    layer = nn.Linear(6, 4).double()
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    spectral_norm(layer)
    power_iteration(layer, steps=200)
    largest = torch.linalg.matrix_norm(2 * layer.parametrizations.weight.original, 2)
    assert spectral_norms(layer)["weight"].item() == pytest.approx(largest.item(), rel=1e-9)
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, rel=1e-9)


def test_refuses_what_is_not_a_matrix() -> None:
    with pytest.raises(FrameworkError, match=r"Linear\.bias must have two or more axes; it has shape \(4,\)"):
        spectral_norm(nn.Linear(6, 4), name="bias")
    with pytest.raises(FrameworkError, match=r"Linear\.gain .* no such parameter"):
        spectral_norm(nn.Linear(6, 4), name="gain")


@pytest.mark.parametrize("init", ["orthogonal", "xavier", "normal"])
def test_initialize_reaches_normalised_weights(init: str) -> None:
    network = nn.Sequential(spectral_norm(nn.Conv2d(64, 32, 3)), nn.Linear(64, 32))
    before = [parameter.clone() for parameter in network.parameters()]
    initialize(network, init=init)
    assert not any(torch.equal(new, old) for new, old in zip(network.parameters(), before, strict=True))
    assert not network[0].bias.any()
    weight = network[0].parametrizations.weight.original.flatten(1)
    if init == "orthogonal":
        torch.testing.assert_close(weight @ weight.T, torch.eye(32), atol=1e-5, rtol=0)
    elif init == "xavier":
        assert weight.abs().max().item() == pytest.approx((6 / (9 * (64 + 32))) ** 0.5, rel=1e-2)
    else:
        assert weight.std().item() == pytest.approx(0.02, rel=2e-2)
    largest = torch.linalg.matrix_norm(weight, 2).item()
    assert spectral_norms(network)["0.weight"].item() == pytest.approx(largest, rel=5e-2)


def test_initialize_names_the_choices() -> None:
    with pytest.raises(FrameworkError, match="init='kaiming' must be one of: orthogonal, xavier, normal"):
        initialize(nn.Linear(2, 2), init="kaiming")
