"""Networks with a condition or with heads, and InfoGAN's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework.networks import dcgan, infogan, mlp, sngan
from framework.networks.blocks.heads import DiscriminatorOutput, Recognition
from framework.networks.blocks.norm import BatchNorm1d
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Seeded

N, CLASSES = 4, 3
LABELS = torch.tensor([0, 1, 2, 1])
POINTS: dict[str, Any] = {"dims": 2, "classes": CLASSES}
PICTURES: dict[str, Any] = {"resolution": 16, "channels": 1, "classes": CLASSES, "width": 4}


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_infogan_has_the_layers_of_the_papers_table() -> None:
    with torch.device("meta"):
        generator, discriminator = infogan.Generator(), infogan.Discriminator(codes=12)
        images = generator(torch.zeros(N, 74))
        assert images.shape == (N, 1, 28, 28)
        output = discriminator(images)
    assert output.logits.shape == (N,)
    assert output.codes.shape == (N, 12)
    assert output.features.shape == (N, 1024)
    # Weights of FC 1024, FC 7x7x128 and deconvolutions to 64 and 1; norms; a bias where there is no norm.
    norms = 2 * (1024 + 7 * 7 * 128 + 64)
    assert num_parameters(generator) == 74 * 1024 + 1024 * 6272 + 16 * 128 * 64 + 16 * 64 + 1 + norms
    # Convolutions to 64 and 128, FC 1024, FC 1; Q: FC 128 and FC 12.
    trunk = 16 * 64 + 64 + 16 * 64 * 128 + 6272 * 1024 + 2 * (128 + 1024) + 1024 + 1
    assert num_parameters(discriminator) == trunk + 1024 * 128 + 2 * 128 + 128 * 12 + 12
    assert num_parameters(infogan.Discriminator()) == trunk


@pytest.mark.parametrize("resolution", [8, 32, 44])
def test_infogan_at_other_resolutions(resolution: int) -> None:
    sizes: dict[str, Any] = {"resolution": resolution, "channels": 3, "width": 2, "hidden": 8}
    images = infogan.Generator(z_dim=5, **sizes)(torch.randn(N, 5))
    assert images.shape == (N, 3, resolution, resolution)
    assert infogan.Discriminator(**sizes)(images).codes is None


def test_a_generator_reads_codes_off_features_if_it_has_a_q() -> None:
    generator = infogan.Generator(z_dim=5, width=2, hidden=8, codes=7, code_features=6)
    assert generator(torch.randn(N, 5), features=torch.randn(N, 6)).shape == (N, 7)
    with pytest.raises(FrameworkError, match="has no Q of its own: build it with codes="):
        infogan.Generator(z_dim=5, width=2, hidden=8)(torch.randn(N, 5), features=torch.randn(N, 6))


HEADED = {
    "mlp": mlp.Discriminator(**POINTS, class_head=True, codes=5, width=8),
    "dcgan": dcgan.Discriminator(**PICTURES, class_head=True, codes=5),
}


@pytest.mark.parametrize("name", HEADED)
def test_heads_are_maps_of_the_features(name: str) -> None:
    network, samples = HEADED[name], torch.randn(N, 2) if name == "mlp" else torch.randn(N, 1, 16, 16)
    output = network(samples, LABELS)
    assert isinstance(output, DiscriminatorOutput)
    assert (output.logits.shape, output.classes.shape, output.codes.shape) == ((N,), (N, CLASSES), (N, 5))
    torch.testing.assert_close(network.heads.classes(output.features), output.classes)
    last = network.layers.output.weight if name == "mlp" else network.output.weight
    bias = network.layers.output.bias if name == "mlp" else 0.0
    torch.testing.assert_close((output.features * last.flatten()).sum(1) + bias, output.logits)


def test_a_critic_with_a_class_head_has_no_projection() -> None:
    options: dict[str, Any] = {"resolution": 32, "channels": 3, "width": 4, "spectral": False, "pooling": "mean"}
    torch.manual_seed(0)
    headed = sngan.Discriminator(**options, classes=CLASSES, class_head=True)
    plain = sngan.Discriminator(**options)
    plain.load_state_dict({name: v for name, v in headed.state_dict().items() if not name.startswith("heads.")})
    images = torch.randn(N, 3, 32, 32)
    output = headed(images, LABELS)
    torch.testing.assert_close(output.logits, plain(images))
    assert output.classes.shape == (N, CLASSES)
    spectral = sngan.Discriminator(resolution=32, channels=3, width=4, classes=CLASSES, class_head=True)
    assert "heads.classes.parametrizations.weight.original" in dict(spectral.named_parameters())


def test_wgan_gps_networks_for_cifar_have_128_channels_everywhere() -> None:
    """Counts by hand: blocks of two 3x3 convolutions and a 1x1 shortcut, where the side or the channels change."""
    conv, shortcut, norm = 128 * 128 * 9 + 128, 128 * 128 + 128, 2 * 128
    with torch.device("meta"):
        generator = sngan.Generator(resolution=32, width=32)
        critic = sngan.Discriminator(resolution=32, spectral=False, pooling="mean")
    first = 128 * 2048 + 2048
    assert (
        num_parameters(generator) == first + 3 * (2 * conv + shortcut + 2 * norm) + norm + 128 * 3 * 9 + 3 == 1_204_483
    )
    from_image = 3 * 128 * 9 + 128 + conv + 3 * 128 + 128
    assert num_parameters(critic) == from_image + 2 * conv + shortcut + 4 * conv + 129 == 1_053_825


CONDITIONED: dict[str, tuple[nn.Module, Tensor]] = {
    "mlp generator": (mlp.Generator(**POINTS, z_dim=5, condition="concatenation"), torch.randn(1, 5)),
    "mlp discriminator": (mlp.Discriminator(**POINTS, condition="concatenation"), torch.randn(1, 2)),
    "dcgan generator": (dcgan.Generator(**PICTURES, z_dim=5, condition="concatenation"), torch.randn(1, 5)),
    "dcgan discriminator": (dcgan.Discriminator(**PICTURES, condition="concatenation"), torch.randn(1, 1, 16, 16)),
}


@pytest.mark.parametrize("name", CONDITIONED)
def test_a_condition_is_a_one_hot_label_beside_the_input(name: str) -> None:
    network, x = CONDITIONED[name]
    network.eval()
    first, second = (network(x, torch.tensor([label])) for label in (0, 1))
    assert not torch.allclose(first, second)
    torch.testing.assert_close(network(x, torch.tensor([[1.0, 0.0, 0.0]])), first)
    with pytest.raises(FrameworkError, match="pass labels"):
        network(x)


def test_constant_maps_and_a_latent_with_its_label_are_what_the_layers_see() -> None:
    network, images = dcgan.Discriminator(**PICTURES, condition="concatenation"), torch.randn(N, 1, 16, 16)
    seen: list[Tensor] = []
    network.from_image.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    network(images, LABELS)
    assert seen[0].shape == (N, 1 + CLASSES, 16, 16)
    assert torch.equal(seen[0][:, :1], images)
    expected = torch.nn.functional.one_hot(LABELS, CLASSES).float()[:, :, None, None].expand(-1, -1, 16, 16)
    assert torch.equal(seen[0][:, 1:], expected)


def test_maxout_is_the_largest_of_its_pieces() -> None:
    """A unit with the pieces x and -x is |x|."""
    network = mlp.Discriminator(dims=1, width=1, depth=1, maxout_pieces=2)
    with torch.no_grad():
        network.layers.hidden[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network.layers.output.weight.fill_(1.0)
    x = torch.tensor([[-2.0], [0.5], [3.0]])
    assert network(x).tolist() == [2.0, 0.5, 3.0]


@pytest.mark.parametrize(
    "network",
    [
        mlp.Generator(dims=2, z_dim=6, dropout=0.5),
        mlp.Discriminator(dims=6, dropout=0.5),
        mlp.Discriminator(dims=6, input_dropout=0.5),
        dcgan.Generator(resolution=8, channels=1, width=2, z_dim=6, dropout=0.5),
    ],
    ids=lambda network: f"{type(network).__module__.rpartition('.')[2]} {type(network).__name__}",
)
def test_dropout_takes_its_seeds_from_the_game(network: Any) -> None:
    x = torch.randn(N, 6)
    given, other = (network.stochastic(Seeded(batch_size=N, seed=seed)) for seed in (0, 1))
    assert torch.equal(network(x, **given), network(x, **given))
    assert not torch.equal(network(x, **given), network(x, **other))
    with pytest.raises(FrameworkError, match="no seeds in training"):
        network(x)
    network.eval()
    network(x)


def test_networks_without_dropout_ask_for_nothing() -> None:
    for network in (mlp.Generator(dims=2), mlp.Discriminator(dims=2), dcgan.Generator(width=2)):
        assert network.stochastic(Seeded(batch_size=N)) == {}


def test_batch_norm_of_vectors_is_torchs() -> None:
    ours, theirs, x = BatchNorm1d(3), nn.BatchNorm1d(3), torch.randn(5, 3)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    torch.manual_seed(0)
    generator = mlp.Generator(dims=2, z_dim=4, batch_norm=True, activation="linear")
    made = generator(torch.randn(64, 4) * 50 + 7)
    assert made.std() < 10, "the scale of the latent is normalised away"


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (mlp.Discriminator, {"dims": 2, "class_head": True}, "class_head=True needs classes"),
        (dcgan.Discriminator, {"class_head": True}, "class_head=True needs classes"),
        (sngan.Discriminator, {"resolution": 32, "class_head": True}, "class_head=True needs classes"),
        (mlp.Generator, {"dims": 2, "condition": "concatenation"}, "condition='concatenation' needs classes"),
        (mlp.Generator, {"dims": 2, "condition": "sum"}, "condition='sum' must be one of: none, concatenation"),
        (mlp.Discriminator, {"dims": 2, "codes": -1}, "codes=-1 must be 0 or the number of outputs"),
        (mlp.Discriminator, {"dims": 2, "maxout_pieces": 1}, "maxout_pieces=1 must be 0 or at least 2"),
        (mlp.Discriminator, {"dims": 2, "kernels": -1}, "num_kernels=-1 must be at least 1"),
        (infogan.Generator, {"resolution": 30}, "resolution=30 must be a multiple of 4 of at least 8"),
        (infogan.Discriminator, {"hidden": 0}, "hidden=0 must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(build: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        build(**options)
    with pytest.raises(FrameworkError, match="width=-1 must be at least 0"):
        Recognition(3, 2, width=-1)
