"""BigGAN's conditioning, checked against SAGAN's generator, which it becomes in special cases."""

import pytest
import torch
from torch import Tensor, nn

from framework.networks import biggan, sagan
from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d
from framework.networks.blocks.spectral import spectral_norms
from framework.utils.errors import FrameworkError

TINY = {"resolution": 32, "width": 2, "shared_dim": 5}


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Counts of networks built by BigGAN-PyTorch and PyTorch-StudioGAN themselves; where both have one, they agree.
KNOWN = {
    # resolution, width, z_dim, classes, attention at: generator, discriminator
    (128, 96, 120, 1000, 64): (70_433_988, 87_982_370),
    (128, 64, 120, 1000, 64): (31_978_628, 39_448_258),
    (256, 96, 140, 1000, 64): (82_235_844, 99_225_890),
    (32, 96, 80, 10, 16): (9_416_196, 2_415_170),
    (64, 80, 100, 100, 32): (17_322_404, 30_668_722),
}


@pytest.mark.parametrize("options", KNOWN, ids=str)
def test_parameter_counts_are_those_of_public_implementations(options: tuple[int, ...]) -> None:
    resolution, width, z_dim, classes, attention_at = options
    common = {"resolution": resolution, "width": width, "classes": classes, "attention_at": attention_at}
    with torch.device("meta"):
        assert num_parameters(biggan.Generator(z_dim=z_dim, **common)) == KNOWN[options][0]
        assert num_parameters(biggan.Discriminator(**common)) == KNOWN[options][1]


def test_unshared_configurations_are_sagan_networks() -> None:
    with torch.device("meta"):  # BigGAN-PyTorch's CIFAR-10 script
        assert num_parameters(sagan.Generator(resolution=32, classes=10)) == 4_304_387
        assert num_parameters(sagan.Discriminator(resolution=32, classes=10, width=128)) == 4_207_361


@pytest.mark.parametrize(("resolution", "z_dim"), [(32, 80), (48, 80), (64, 100), (128, 120), (256, 140), (512, 160)])
@pytest.mark.parametrize("classes", [0, 7])
def test_shapes_at_every_resolution(resolution: int, z_dim: int, classes: int) -> None:
    with torch.device("meta"):
        generator = biggan.Generator(
            resolution=resolution,
            channels=1,
            classes=classes,
            z_dim=z_dim,
            attention_at=resolution // 2,
            spectral=False,
        )
        labels = torch.zeros(2, dtype=torch.int64)
        assert generator(torch.zeros(2, z_dim), labels).shape == (2, 1, resolution, resolution)


def normed_inputs(generator: nn.Module, z: Tensor, labels: Tensor | None) -> list[Tensor]:
    """What conditions each block's first norm."""
    seen: list[Tensor] = []
    for block in generator.blocks:
        block.norm1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    generator(z, labels)
    return seen


def test_each_block_is_conditioned_on_the_embedding_and_its_own_chunk() -> None:
    generator = biggan.Generator(classes=3, z_dim=12, **TINY)
    z, labels = torch.randn(2, 12), torch.tensor([2, 0])
    first: list[Tensor] = []
    generator.linear.register_forward_hook(lambda module, inputs, output: first.append(inputs[0]))
    conditions = normed_inputs(generator, z, labels)
    assert torch.equal(first[0], z[:, :3])
    embedded = generator.embedding.weight[labels]
    assert len(conditions) == 3
    for index, condition in enumerate(conditions):
        chunk = z[:, 3 * (index + 1) : 3 * (index + 2)]
        assert torch.equal(condition, torch.cat([embedded, chunk], 1))


def test_without_classes_blocks_are_conditioned_on_their_chunks() -> None:
    generator = biggan.Generator(z_dim=12, **TINY)
    z = torch.randn(2, 12)
    conditions = normed_inputs(generator, z, None)
    assert [c.shape for c in conditions] == [(2, 3)] * 3
    assert torch.equal(torch.cat(conditions, 1), z[:, 3:])


def test_without_hierarchy_and_classes_norms_are_plain() -> None:
    generator = biggan.Generator(z_dim=7, hierarchical=False, **TINY)
    assert not any(isinstance(module, ConditionalBatchNorm2d) for module in generator.modules())
    assert generator(torch.randn(2, 7)).shape == (2, 3, 32, 32)


def copy_shared_parts(ours: nn.Module, reference: nn.Module, *, columns: slice) -> None:
    """Load a SAGAN generator into a BigGAN one: its labels' maps become columns of maps that are zero elsewhere."""
    own, state = ours.state_dict(), reference.state_dict()
    for name, tensor in state.items():
        if ".gain." in name or ".bias.weight" in name:
            own[name].zero_()
            own[name][:, columns] = tensor
        else:
            own[name].copy_(tensor)


@pytest.mark.parametrize("hierarchical", [False, True])
def test_with_an_identity_for_embedding_it_is_sagan(hierarchical: bool) -> None:
    torch.manual_seed(0)
    common = {"resolution": 32, "width": 2, "classes": 5, "spectral": False, "attention_at": 16}
    reference = sagan.Generator(z_dim=4, **common).double()
    generator = biggan.Generator(
        z_dim=16 if hierarchical else 4, shared_dim=5, hierarchical=hierarchical, **common
    ).double()
    copy_shared_parts(generator, reference, columns=slice(0, 5))
    generator.embedding.weight.data.copy_(torch.eye(5))
    for network in (generator, reference):
        nn.init.constant_(network.attention.gamma, 0.7)
    z, labels = torch.randn(3, generator.z_dim, dtype=torch.float64), torch.tensor([4, 0, 1])
    torch.testing.assert_close(generator(z, labels), reference(z[:, :4], labels), rtol=1e-12, atol=1e-12)


def test_one_hot_labels_and_mixtures() -> None:
    torch.manual_seed(0)
    generator = biggan.Generator(classes=3, z_dim=8, **TINY).eval()
    z, labels = torch.randn(2, 8), torch.tensor([2, 0])
    one_hot = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    torch.testing.assert_close(generator(z, one_hot), generator(z, labels))
    mixture = normed_inputs(generator, z, torch.tensor([[0.25, 0.0, 0.75]]).expand(2, 3))[0]
    expected = 0.25 * generator.embedding.weight[0] + 0.75 * generator.embedding.weight[2]
    torch.testing.assert_close(mixture[0, :5], expected)
    discriminator = biggan.Discriminator(resolution=32, classes=3, width=4)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(discriminator(images, one_hot), discriminator(images, labels))


def test_every_layer_but_the_embedding_is_spectrally_normalised() -> None:
    generator = biggan.Generator(classes=3, z_dim=8, attention_at=16, **(TINY | {"width": 4}))
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    layers = {f"{name}.weight" for name, module in generator.named_modules() if isinstance(module, kinds)}
    assert layers - spectral_norms(generator).keys() == {"embedding.weight"}
    assert not spectral_norms(biggan.Generator(classes=3, z_dim=8, spectral=False, **TINY))


def test_batch_norm_options_reach_every_layer() -> None:
    options = {"batch_norm_eps": 1e-4, "batch_norm_momentum": 0.2, "statistics": "local"}
    generator = biggan.Generator(classes=3, z_dim=8, **TINY, **options)
    norms = [module for module in generator.modules() if isinstance(module, BatchNorm2d)]
    assert len(norms) == 7
    assert all((norm.eps, norm.momentum, norm.statistics) == (1e-4, 0.2, "local") for norm in norms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 128, "z_dim": 128}, r"z_dim=128 must be a multiple of 6 \(.*\): 126 or 132; or set hierarch"),
        ({"resolution": 32, "z_dim": 3}, r"z_dim=3 must be a multiple of 4 \(.*\): 4; or set hierarchical=False"),
        ({"resolution": 32, "shared_dim": 0}, "shared_dim=0 must be at least 1"),
        ({"resolution": 100}, "resolution=100 must be 48 or a power of two of at least 32"),
        ({"resolution": 32, "attention_at": 4}, "attention_at=4 .* feature map: 8, 16, 32$"),
        ({"resolution": 32, "multiples": (4, 4)}, r"multiples=\(4, 4\) must be 4 positive numbers, .* 4, 8, 16, 32 px"),
        ({"resolution": 32, "multiples": (4, 4, 0, 1)}, "must be 4 positive numbers"),
        ({"resolution": 32, "classes": -2}, "classes=-2 must be 0"),
    ],
)
def test_wrong_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        biggan.Generator(**options)


def test_missing_and_misshapen_labels_are_named() -> None:
    generator = biggan.Generator(classes=3, z_dim=8, **TINY)
    with pytest.raises(FrameworkError, match="classes=3: pass labels"):
        generator(torch.randn(2, 8))
    with pytest.raises(FrameworkError, match=r"labels have shape \(2, 4\)"):
        generator(torch.randn(2, 8), torch.ones(2, 4))
