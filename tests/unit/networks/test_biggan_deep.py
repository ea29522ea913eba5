"""BigGAN-deep: bottleneck blocks and their shortcuts, conditioning, parameter counts."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks import biggan_deep
from framework.networks.blocks.bottleneck import BottleneckDiscriminatorBlock, BottleneckGeneratorBlock
from framework.networks.blocks.norm import BatchNorm2d, batch_norms
from framework.networks.blocks.spectral import spectral_norms
from framework.utils.errors import FrameworkError


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_those_of_public_implementations() -> None:
    options = {"resolution": 128, "classes": 1000, "attention_at": 64}
    with torch.device("meta"):
        assert num_parameters(biggan_deep.Generator(**options)) == 50_244_484
        assert num_parameters(biggan_deep.Discriminator(**options)) == 34_590_210


@pytest.mark.parametrize("resolution", [32, 48, 64, 256, 512])
@pytest.mark.parametrize(("classes", "depth"), [(0, 1), (7, 3)])
def test_shapes_at_every_resolution(resolution: int, classes: int, depth: int) -> None:
    options = {"resolution": resolution, "channels": 1, "classes": classes, "depth": depth, "spectral": False}
    with torch.device("meta"):
        generator = biggan_deep.Generator(attention_at=resolution // 2, **options)
        discriminator = biggan_deep.Discriminator(attention_at=resolution // 2, **options)
        labels = torch.zeros(2, dtype=torch.int64)
        images = generator(torch.zeros(2, generator.z_dim), labels)
        assert images.shape == (2, 1, resolution, resolution)
        assert discriminator(images, labels).shape == (2,)


def test_attention_sees_the_stated_resolution_after_both_blocks() -> None:
    options = {"resolution": 32, "width": 4, "attention_at": 16}
    generator, discriminator = biggan_deep.Generator(**options), biggan_deep.Discriminator(**options)
    order: list[tuple[str, tuple[int, ...]]] = []
    for network in (generator, discriminator):
        for name, module in network.named_modules():
            if name == "attention" or name.rpartition(".")[0] == "blocks":
                module.register_forward_hook(
                    lambda module, inputs, output, name=name: order.append((name, tuple(output.shape[1:])))
                )
    discriminator(generator(torch.randn(2, 128)))
    names = [name for name, _ in order]
    assert [shape for name, shape in order if name == "attention"] == [(16, 16, 16), (8, 16, 16)]
    assert names[:6] == ["blocks.0", "blocks.1", "blocks.2", "blocks.3", "attention", "blocks.4"]
    assert names[7:11] == ["blocks.0", "blocks.1", "attention", "blocks.2"]


def test_class_and_latent_condition_everything() -> None:
    generator = biggan_deep.Generator(resolution=32, classes=3, z_dim=6, shared_dim=4, width=4)
    z, labels, seen = torch.randn(2, 6), torch.tensor([2, 0]), []
    generator.linear.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    for block in generator.blocks:
        for norm in (block.norm1, block.norm2, block.norm3, block.norm4):
            norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    generator(z, labels)
    condition = torch.cat([generator.embedding.weight[labels], z], 1)
    assert len(seen) == 1 + 6 * 4
    assert all(torch.equal(each, condition) for each in seen)


def blocked(block: nn.Module) -> nn.Module:
    """The block with nothing but its shortcut."""
    nn.init.zeros_(block.conv4.weight), nn.init.zeros_(block.conv4.bias)
    return block.double()


def test_a_generator_drops_channels_and_repeats_pixels() -> None:
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    block = blocked(BottleneckGeneratorBlock(8, 5, norm=batch_norms(0), upsample=True, spectral=False))
    assert torch.equal(block(x), x[:, :5].repeat_interleave(2, 2).repeat_interleave(2, 3))
    block = blocked(BottleneckGeneratorBlock(8, 8, norm=batch_norms(0), spectral=False))
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("rectified", [False, True])
def test_a_discriminator_appends_channels_to_averaged_pixels(rectified: bool) -> None:
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    options = {"spectral": False, "rectified_shortcut": rectified}
    block = blocked(BottleneckDiscriminatorBlock(8, 12, downsample=True, **options))
    kept = functional.avg_pool2d(x.relu() if rectified else x, 2)
    torch.testing.assert_close(block(x), torch.cat([kept, block.shortcut(kept)], 1))
    block = blocked(BottleneckDiscriminatorBlock(8, 8, **options))
    assert torch.equal(block(x), x.relu() if rectified else x)


def residual(block: nn.Module, x: Tensor, upsample: bool) -> Tensor:
    """The branch in the order of figure 16, written once more."""
    for index in (1, 2, 3, 4):
        x = getattr(block, f"norm{index}")(x).relu()
        if upsample and index == 2:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = getattr(block, f"conv{index}")(x)
    return x


def test_the_generators_branch_is_the_papers() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 8, 4, 4, dtype=torch.float64)
    block = BottleneckGeneratorBlock(8, 5, norm=batch_norms(0), upsample=True, spectral=False).double()
    kept = x[:, :5].repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(block(x), residual(block, x, upsample=True) + kept)
    assert [tuple(c.weight.shape) for c in (block.conv1, block.conv2, block.conv3, block.conv4)] == [
        (2, 8, 1, 1),
        (2, 2, 3, 3),
        (2, 2, 3, 3),
        (5, 2, 1, 1),
    ]


def test_the_discriminators_branch_is_the_papers() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 8, 4, 4, dtype=torch.float64)
    block = BottleneckDiscriminatorBlock(8, 8, downsample=True, spectral=False).double()
    branch = block.conv3(block.conv2(block.conv1(x.relu()).relu()).relu()).relu()
    expected = block.conv4(functional.avg_pool2d(branch, 2)) + functional.avg_pool2d(x, 2)
    torch.testing.assert_close(block(x), expected)


def test_every_layer_but_the_shared_embedding_is_spectrally_normalised() -> None:
    options = {"resolution": 32, "classes": 3, "width": 4, "attention_at": 16}
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    for network, bare in (
        (biggan_deep.Generator(**options), {"embedding.weight"}),
        (biggan_deep.Discriminator(**options), set()),
    ):
        layers = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, kinds)}
        assert layers - spectral_norms(network).keys() == bare
    assert not spectral_norms(biggan_deep.Generator(spectral=False, **options))


def test_batch_norm_options_reach_every_layer() -> None:
    options = {"batch_norm_eps": 1e-4, "batch_norm_momentum": 0.2, "statistics": "local"}
    generator = biggan_deep.Generator(resolution=32, width=4, **options)
    norms = [module for module in generator.modules() if isinstance(module, BatchNorm2d)]
    assert len(norms) == 6 * 4 + 1
    assert all((norm.eps, norm.momentum, norm.statistics) == (1e-4, 0.2, "local") for norm in norms)


@pytest.mark.parametrize("network", [biggan_deep.Generator, biggan_deep.Discriminator])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 96}, "resolution=96 must be 48 or a power of two"),
        ({"resolution": 32, "width": 3}, "width=3 must be at least 4: bottlenecks"),
        ({"resolution": 32, "depth": 0}, "depth=0 must be at least 1"),
        ({"resolution": 32, "attention_at": 5}, "attention_at=5 must be None or the side"),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        network(**options)
