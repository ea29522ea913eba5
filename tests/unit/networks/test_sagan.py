import json
from pathlib import Path

import pytest
import torch
from torch import nn

from framework.networks import sagan
from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d
from framework.networks.blocks.residual import DiscriminatorBlock, GeneratorBlock
from framework.networks.blocks.spectral import spectral_norms
from framework.utils.errors import FrameworkError

KNOWN = json.loads((Path(__file__).parents[2] / "golden" / "known_parameters.json").read_text())["networks"]


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known["name"].split(" (")[0])
def test_parameter_counts_are_those_of_public_implementations(known: dict) -> None:
    with torch.device("meta"):
        assert num_parameters(sagan.Generator(**known["generator"])) == known["parameters"]["generator"]
        assert num_parameters(sagan.Discriminator(**known["discriminator"])) == known["parameters"]["discriminator"]


@pytest.mark.parametrize(("resolution", "classes"), [(32, 7), (64, 0), (128, 7), (256, 0), (1024, 7)])
def test_shapes_at_every_resolution(resolution: int, classes: int) -> None:
    with torch.device("meta"):
        generator = sagan.Generator(resolution=resolution, channels=1, classes=classes, attention_at=16)
        discriminator = sagan.Discriminator(resolution=resolution, channels=1, classes=classes, attention_at=16)
        labels = torch.zeros(2, dtype=torch.int64)
        images = generator(torch.zeros(2, generator.z_dim), labels)
        assert images.shape == (2, 1, resolution, resolution)
        assert discriminator(images, labels).shape == (2,)


@pytest.mark.parametrize("at", [8, 16, 32])
def test_attention_sees_the_stated_resolution(at: int) -> None:
    seen = []
    generator = sagan.Generator(resolution=32, width=2, attention_at=at)
    generator.attention.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[-1]))
    images = generator(torch.randn(2, 128))
    if at < 32:
        discriminator = sagan.Discriminator(resolution=32, width=4, attention_at=at)
        discriminator.attention.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[-1]))
        discriminator(images)
    assert seen == ([at, at] if at < 32 else [at])


def test_conditional_networks_depend_on_the_label() -> None:
    torch.manual_seed(0)
    generator = sagan.Generator(resolution=32, classes=3, width=2)
    discriminator = sagan.Discriminator(resolution=32, classes=3, width=4)
    z = torch.randn(1, 128).expand(2, -1)
    images = generator(z, torch.tensor([0, 2]))
    assert images.abs().max() <= 1
    assert not torch.allclose(images[0], images[1])
    logits = discriminator(images[:1].expand(2, -1, -1, -1), torch.tensor([0, 2]))
    assert logits[0] != logits[1]
    one_hot = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(generator.eval()(z, one_hot), generator(z, torch.tensor([0, 2])))


def test_unconditional_networks_ignore_labels() -> None:
    generator, discriminator = sagan.Generator(resolution=32, width=2), sagan.Discriminator(resolution=32, width=4)
    assert not any(isinstance(module, ConditionalBatchNorm2d) for module in generator.modules())
    z, labels = torch.randn(2, 128), torch.zeros(2, dtype=torch.int64)
    images = generator(z, labels)
    assert torch.equal(images, generator(z))
    assert torch.equal(discriminator(images, labels), discriminator(images))


def test_projection_is_an_inner_product_of_features() -> None:
    discriminator = sagan.Discriminator(resolution=32, classes=3, width=4, spectral=False)
    images, features = torch.randn(2, 3, 32, 32), []
    discriminator.linear.register_forward_hook(lambda module, inputs, output: features.append(inputs[0]))
    labels = torch.tensor([2, 1])
    logits = discriminator(images, labels)
    expected = features[0] @ discriminator.linear.weight[0] + (
        features[0] * discriminator.embedding.weight[labels]
    ).sum(1)
    torch.testing.assert_close(logits, expected)


def test_spectral_norm_reaches_every_layer_and_can_be_left_out() -> None:
    def bare(network: nn.Module) -> set[str]:
        kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
        layers = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, kinds)}
        return layers - spectral_norms(network).keys()

    options = {"resolution": 32, "classes": 3, "width": 4, "attention_at": 16}
    assert bare(sagan.Generator(**options)) == set()
    assert bare(sagan.Discriminator(**options)) == set()
    left = bare(sagan.Generator(conditional_spectral=False, **options))
    assert len(left) == 12
    assert all(name.endswith((".gain.weight", ".bias.weight")) for name in left)
    assert not spectral_norms(sagan.Generator(spectral=False, **options))
    assert not spectral_norms(sagan.Discriminator(spectral=False, **options))


def test_batch_norm_options_reach_every_layer() -> None:
    options = {"batch_norm_eps": 1e-4, "batch_norm_momentum": 0.2, "statistics": "local"}
    generator = sagan.Generator(resolution=32, classes=3, width=2, **options)
    norms = [module for module in generator.modules() if isinstance(module, BatchNorm2d)]
    assert len(norms) == 7
    assert all((norm.eps, norm.momentum, norm.statistics) == (1e-4, 0.2, "local") for norm in norms)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (sagan.Generator, {"resolution": 40}, "resolution=40 must be 48 or a power of two of at least 32"),
        (sagan.Discriminator, {"resolution": 16}, "resolution=16 must be 48 or a power of two of at least 32"),
        (sagan.Generator, {"resolution": 32, "attention_at": 64}, "attention_at=64 .* feature map: 8, 16, 32$"),
        (sagan.Generator, {"resolution": 32, "attention_at": 0}, "attention_at=0 .* feature map: 8, 16, 32$"),
        (sagan.Discriminator, {"resolution": 64, "attention_at": 64}, "attention_at=64 .* feature map: 32, 16, 8, 4$"),
        (sagan.Discriminator, {"resolution": 32, "width": 2, "attention_at": 16}, "channels=4 needs at least 8"),
        (sagan.Generator, {"resolution": 32, "classes": -1}, "classes=-1 must be 0"),
        (sagan.Generator, {"resolution": 32, "z_dim": 0}, "z_dim=0 must be at least 1"),
        (sagan.Discriminator, {"resolution": 32, "channels": 0}, "channels=0 must be at least 1"),
        (sagan.Generator, {"resolution": 32, "statistics": "sync"}, "statistics='sync' must be one of: global, local"),
        (sagan.Generator, {"resolution": 32, "upsampling": "cubic"}, "upsampling='cubic' must be one of: nearest"),
        (sagan.Generator, {"resolution": 32, "width": 1, "init": "he"}, "init='he' must be one of: orthogonal"),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        network(**options)


def test_missing_labels_are_named() -> None:
    generator = sagan.Generator(resolution=32, classes=3, width=1)
    with pytest.raises(FrameworkError, match="classes=3: pass labels"):
        generator(torch.randn(2, 128))


def test_resampling_shortcuts_after_or_before_the_convolution_is_the_same() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    up = GeneratorBlock(4, 6, norm=BatchNorm2d, upsampling="bilinear").double()
    torch.testing.assert_close(up._upsample(up.shortcut(x)), up.shortcut(up._upsample(x)))
    down = DiscriminatorBlock(4, 6).double()
    torch.testing.assert_close(down._pool(down.shortcut(x)), down.shortcut(down._pool(x)))
