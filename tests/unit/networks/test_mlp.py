import pytest
import torch
from torch import nn

from framework.networks import latent_size, mlp
from framework.utils.errors import FrameworkError


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_points() -> None:
    """Unrolled GAN's networks: 256-128-128-2 and 2-128-1."""
    generator, discriminator = mlp.Generator(dims=2), mlp.Discriminator(dims=2, input_scale=0.25)
    assert latent_size(generator) == 256
    assert num_parameters(generator) == (256 * 128 + 128) + (128 * 128 + 128) + (128 * 2 + 2)
    assert num_parameters(discriminator) == (2 * 128 + 128) + (128 + 1)
    points = generator(torch.randn(5, 256), torch.zeros(5, dtype=torch.int64))
    assert points.shape == (5, 2)
    logits = discriminator(points)
    assert logits.shape == (5,)
    unscaled = mlp.Discriminator(dims=2)
    unscaled.load_state_dict(discriminator.state_dict())
    torch.testing.assert_close(unscaled(points / 4), logits)


def test_pictures() -> None:
    options = {"resolution": 8, "channels": 1, "width": 16, "depth": 3}
    generator, discriminator = mlp.Generator(z_dim=4, **options), mlp.Discriminator(**options)
    images = generator(torch.randn(5, 4) * 1000)
    assert images.shape == (5, 1, 8, 8)
    assert images.abs().max() <= 1, "a tanh"
    assert mlp.Generator(dims=64, z_dim=4)(torch.randn(5, 4) * 1000).abs().max() > 1, "points are not squashed"
    assert discriminator(images).shape == (5,)
    assert num_parameters(discriminator) == (64 * 16 + 16) + 2 * (16 * 16 + 16) + (16 + 1)


def test_no_hidden_layer_is_a_linear_map() -> None:
    generator = mlp.Generator(dims=3, z_dim=7, depth=0)
    assert num_parameters(generator) == 7 * 3 + 3
    z = torch.randn(2, 7)
    torch.testing.assert_close(generator(2 * z), 2 * generator(z))  # the biases start at zero


@pytest.mark.parametrize("activation", ["relu", "lrelu", "tanh"])
def test_activations_have_no_gain(activation: str) -> None:
    torch.manual_seed(0)
    network = mlp.Discriminator(dims=2, width=3, activation=activation)
    function = {"relu": nn.ReLU(), "lrelu": nn.LeakyReLU(0.2), "tanh": nn.Tanh()}[activation]
    plain = nn.Sequential(network.layers.hidden[0], function, network.layers.output)
    x = torch.randn(4, 2)
    torch.testing.assert_close(network(x), plain(x).squeeze(1))


def test_initial_weights() -> None:
    torch.manual_seed(0)
    layers = mlp.Generator(dims=2, gain=0.5).layers
    for layer in (*layers.hidden, layers.output):
        gram = layer.weight @ layer.weight.T  # rows are orthogonal, since no layer has more outputs than inputs
        torch.testing.assert_close(gram, 0.25 * torch.eye(len(gram)), rtol=0, atol=1e-5)
        assert not layer.bias.any()
    weight = mlp.Generator(dims=2, init="default").layers.hidden[0].weight
    assert weight.abs().max() <= 256**-0.5, "torch's: uniform within 1 / sqrt(inputs)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "dims=0 and resolution=0: one of them must be at least 1, the other 0"),
        ({"dims": 2, "resolution": 8}, "dims=2 and resolution=8: one of them"),
        ({"dims": -1, "resolution": 8}, "dims=-1 and resolution=8: one of them"),
        ({"dims": 2, "width": 0}, "width=0 must be at least 1"),
        ({"dims": 2, "depth": -1}, "depth=-1 must be at least 0"),
        ({"dims": 2, "gain": 0.0}, "gain=0.0 must be a positive number"),
        ({"dims": 2, "gain": float("nan")}, "gain=nan must be a positive number"),
        ({"dims": 2, "activation": "step"}, "activation='step' must be one of: linear, relu"),
        ({"dims": 2, "init": "zeros"}, "init='zeros' must be one of: orthogonal, default"),
        ({"resolution": 8, "channels": 0}, "channels=0 must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(options: dict, message: str) -> None:
    for network in (mlp.Generator, mlp.Discriminator):
        with pytest.raises(FrameworkError, match=message):
            network(**options)


def test_wrong_arguments_of_one_network_are_named() -> None:
    with pytest.raises(FrameworkError, match="z_dim=0 must be at least 1"):
        mlp.Generator(dims=2, z_dim=0)
    for scale in (0.0, float("inf")):
        with pytest.raises(FrameworkError, match=f"input_scale={scale} must be a positive number"):
            mlp.Discriminator(dims=2, input_scale=scale)
