"""R3GAN's blocks to second order, its initialisation, conditioning and parameter counts."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from framework.networks import r3gan
from framework.utils.errors import FrameworkError

TINY = {"resolution": 8, "widths": (8, 4), "groups": (4, 2), "num_blocks": (2, 1)}


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


IMAGENET = {"classes": 1000, "groups": 96}
KNOWN = {
    "CIFAR-10": ({"resolution": 32, "classes": 10}, 20_781_952, 21_280_512),
    "CIFAR-10, unconditional": ({"resolution": 32}, 20_732_160, 20_683_776),
    "FFHQ 64": ({"resolution": 64}, 22_429_824, 22_381_440),
    "FFHQ 256": ({"resolution": 256}, 23_057_952, 23_009_568),
    "ImageNet 32": ({"resolution": 32, "widths": (1536,) * 4, **IMAGENET}, 82_914_304, 86_548_992),
    "ImageNet 64": ({"resolution": 64, "widths": (1536,) * 5, **IMAGENET}, 103_570_432, 107_205_120),
}


@pytest.mark.parametrize("name", KNOWN)
def test_parameter_counts_are_those_of_the_authors_program(name: str) -> None:
    options, generator, discriminator = KNOWN[name]
    with torch.device("meta"):
        assert num_parameters(r3gan.Generator(**options)) == generator
        assert num_parameters(r3gan.Discriminator(**options)) == discriminator


@pytest.mark.parametrize(("resolution", "classes"), [(8, 0), (32, 7), (256, 0)])
def test_shapes(resolution: int, classes: int) -> None:
    options = {"resolution": resolution, "channels": 1, "classes": classes}
    with torch.device("meta"):
        generator, discriminator = r3gan.Generator(**options), r3gan.Discriminator(**options)
        labels = torch.zeros(2, dtype=torch.int64)
        images = generator(torch.zeros(2, 64), labels)
        assert images.shape == (2, 1, resolution, resolution)
        assert discriminator(images, labels).shape == (2,)


def randomised(module: nn.Module) -> nn.Module:
    """In float64, with no parameter at zero, so that every path matters."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


def test_second_derivatives_of_a_block_by_finite_differences() -> None:
    block = randomised(r3gan.Block(2, expansion=2, groups=2, depth=3))
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    weights = tuple(block.parameters())

    def through(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        names = [name for name, _ in block.named_parameters()]
        return torch.func.functional_call(block, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(through, (x, *weights))
    assert torch.autograd.gradgradcheck(through, (x, *weights))


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("out_channels", [2, 3])
def test_second_derivatives_of_resampling_by_finite_differences(up: bool, out_channels: int) -> None:
    layer = randomised(r3gan.Resample(2, out_channels, up=up))
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_resampling_is_bilinear_with_zeros_outside() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    framed = functional.pad(x, (1, 1, 1, 1))
    up = r3gan.Resample(2, 2, up=True).double()(x)
    bilinear = functional.interpolate(framed, scale_factor=2, mode="bilinear")[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(up, bilinear)
    down = r3gan.Resample(2, 2, up=False).double()(x)
    weights = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8
    expected = functional.conv2d(framed, torch.outer(weights, weights).expand(2, 1, 4, 4), stride=2, groups=2)
    torch.testing.assert_close(down, expected)


def test_a_block_starts_as_the_identity_and_its_branch_small() -> None:
    torch.manual_seed(0)
    depth = 16
    block = r3gan.Block(256, expansion=2, groups=8, depth=depth)
    x = torch.randn(2, 256, 4, 4)
    assert torch.equal(block(x), x)
    gain = math.sqrt(2 / 1.04) * depth ** (-1 / 4)
    for layer, fan_in in ((block.expand, 256), (block.grouped, 64 * 9)):
        # Of so many normal values the standard deviation is known to about 1 / sqrt(2 n).
        assert layer.weight.std().item() == pytest.approx(gain / math.sqrt(fan_in), rel=5 / math.sqrt(2 * 131_072))
    assert not any(parameter.any() for parameter in (block.bias1, block.bias2, block.project.weight))


def test_the_first_images_and_features_keep_their_variance() -> None:
    torch.manual_seed(0)
    options = {"resolution": 16, "widths": (512, 256, 256), "num_blocks": 1}
    images = r3gan.Generator(channels=3, classes=4, **options)(torch.randn(64, 64), torch.arange(64) % 4)
    # The latent's part has variance 1, the label's 1 / classes; resampling then averages neighbours.
    assert 0.1 < images.var().item() < 1.0
    discriminator = r3gan.Discriminator(classes=4, **options)
    logits = discriminator(torch.randn(64, 3, 16, 16), torch.arange(64) % 4)
    assert 1e-4 < logits.var().item() < 1.0


def test_labels_condition_both_players() -> None:
    torch.manual_seed(0)
    generator = randomised(r3gan.Generator(classes=3, z_dim=6, embedding_dim=2, **TINY))
    discriminator = randomised(r3gan.Discriminator(classes=3, embedding_dim=5, **TINY))
    z = torch.randn(1, 6, dtype=torch.float64).expand(2, -1)
    labels, one_hot = torch.tensor([0, 2]), torch.eye(3, dtype=torch.float64)[[0, 2]]
    images = generator(z, labels)
    assert not torch.allclose(images[0], images[1])
    torch.testing.assert_close(images, generator(z, one_hot))
    same = images[:1].expand(2, -1, -1, -1)
    logits = discriminator(same, labels)
    assert not torch.allclose(logits[0], logits[1])
    torch.testing.assert_close(logits, discriminator(same, one_hot))
    features: list[torch.Tensor] = []
    discriminator.linear.register_forward_hook(lambda module, inputs, output: features.append(output))
    discriminator(same, labels)
    torch.testing.assert_close(logits, (features[0] @ discriminator.embedding.weight)[torch.arange(2), labels])


def test_the_latent_comes_before_the_labels_embedding() -> None:
    generator = r3gan.Generator(classes=3, z_dim=6, embedding_dim=2, **TINY)
    seen: list[torch.Tensor] = []
    generator.linear.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    z, labels = torch.randn(2, 6), torch.tensor([0, 2])
    generator(z, labels)
    assert torch.equal(seen[0], torch.cat([z, generator.embedding.weight.t()[labels]], 1))


def test_unconditional_networks_ignore_labels() -> None:
    generator, discriminator = r3gan.Generator(z_dim=6, **TINY), r3gan.Discriminator(**TINY)
    z, labels = torch.randn(2, 6), torch.tensor([0, 1])
    images = generator(z, labels)
    assert torch.equal(images, generator(z))
    assert torch.equal(discriminator(images, labels), discriminator(images))


@pytest.mark.parametrize("network", [r3gan.Generator, r3gan.Discriminator])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 4}, "resolution=4 must be a power of two of at least 8"),
        ({"resolution": 48}, "resolution=48 must be a power of two of at least 8"),
        ({"resolution": 32, "widths": (768, 768)}, r"widths=\[768, 768\] must be 4 positive numbers"),
        ({"resolution": 8, "num_blocks": (2, 0)}, r"num_blocks=\[2, 0\] must be 2 positive numbers"),
        ({"resolution": 8, "widths": (8, 8), "groups": 3}, "groups=3 must divide the 16 hidden channels of width 8"),
        ({"resolution": 8, "expansion": 0}, "expansion=0 must be at least 1"),
        ({"resolution": 8, "classes": 3, "embedding_dim": 0}, "embedding_dim=0 must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        network(**options)


def test_missing_labels_are_named() -> None:
    for network, x in ((r3gan.Generator, torch.randn(2, 64)), (r3gan.Discriminator, torch.randn(2, 3, 8, 8))):
        with pytest.raises(FrameworkError, match="classes=3: pass labels"):
            network(resolution=8, widths=(8, 8), classes=3)(x)
