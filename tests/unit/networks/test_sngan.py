"""SNGAN's presets: parameter counts of the public implementations, and what distinguishes them from SAGAN's."""

import pytest
import torch
from torch import nn

from framework.networks import sagan, sngan
from framework.networks.blocks.spectral import spectral_norms
from framework.utils.errors import FrameworkError


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


KNOWN = {
    # mimicry's SNGAN, and its DCGAN and WGAN-GP, which are the same networks: resolution, classes
    (32, 0): (4_276_739, 1_053_825),
    (48, 0): (4_878_083, 10_141_441),
    (64, 0): (12_220_675, 10_141_441),
    (128, 0): (32_150_787, 29_017_857),
    # mimicry's projection cGAN, StudioGAN's SNGAN
    (32, 10): (4_304_387, 1_055_105),
}


@pytest.mark.parametrize(("resolution", "classes"), KNOWN)
def test_parameter_counts_are_those_of_public_implementations(resolution: int, classes: int) -> None:
    options = {"resolution": resolution, "classes": classes}
    with torch.device("meta"):
        assert num_parameters(sngan.Generator(**options)) == KNOWN[resolution, classes][0]
        assert num_parameters(sngan.Discriminator(**options)) == KNOWN[resolution, classes][1]


def test_variants_of_other_public_implementations_are_options_of_sagan() -> None:
    options = {"resolution": 128, "classes": 1000}
    with torch.device("meta"):
        # BigGAN-PyTorch's launch_SNGAN: a spectrally normalised generator and a discriminator that is thin throughout.
        assert num_parameters(sagan.Generator(conditional_spectral=False, **options)) == 41_996_931
        assert num_parameters(sagan.Discriminator(hidden="input_throughout", **options)) == 30_005_013
        # mimicry's SAGAN at 128 px.
        assert num_parameters(sagan.Generator(attention_at=32, **options)) == 42_078_852
        thin = sagan.Discriminator(width=8, hidden="input", attention_at=32, **options)
        assert num_parameters(thin) == 582_818


SIDES = {32: (8, 16, 8, 8, 8), 48: (12, 24, 12, 6, 3, 3), 64: (8, 32, 16, 8, 4, 2), 128: (8, 64, 32, 16, 8, 4, 4)}


@pytest.mark.parametrize("resolution", SIDES)
def test_feature_maps_have_the_tables_sides(resolution: int) -> None:
    generator_first, *discriminator_sides = SIDES[resolution]
    with torch.device("meta"):
        generator, discriminator = sngan.Generator(resolution=resolution), sngan.Discriminator(resolution=resolution)
        seen: list[int] = []
        for block in (generator.blocks[0], *discriminator.blocks):
            block.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
        images = generator(torch.zeros(2, 128))
        assert images.shape == (2, 3, resolution, resolution)
        discriminator(images)
    assert seen == [generator_first, *discriminator_sides]


def test_only_the_discriminator_is_spectrally_normalised() -> None:
    assert not spectral_norms(sngan.Generator(resolution=32, classes=3, width=1))
    normalised = spectral_norms(sngan.Discriminator(resolution=32, classes=3, width=1))
    assert {"linear.weight", "embedding.weight", "blocks.0.conv1.weight"} <= normalised.keys()
    bare_head = spectral_norms(sngan.Discriminator(resolution=32, classes=3, width=1, head_spectral=False))
    assert normalised.keys() - bare_head.keys() == {"linear.weight", "embedding.weight"}


def test_hidden_channels_are_the_inputs_after_the_first_block() -> None:
    with torch.device("meta"):
        blocks = sngan.Discriminator(resolution=64, width=8).blocks
    assert [block.conv1.out_channels for block in blocks] == [8, 8, 16, 32, 64]
    with torch.device("meta"):
        throughout = sagan.Discriminator(resolution=64, width=8, hidden="input_throughout").blocks
        wide = sagan.Discriminator(resolution=64, width=8).blocks
    assert [block.conv1.out_channels for block in throughout] == [3, 8, 16, 32, 64]
    assert [block.conv1.out_channels for block in wide] == [8, 16, 32, 64, 128]


def test_mean_pooling_divides_by_the_pixels() -> None:
    torch.manual_seed(0)
    summed = sngan.Discriminator(resolution=48, width=1, spectral=False)
    averaged = sngan.Discriminator(resolution=48, width=1, spectral=False, pooling="mean")
    averaged.load_state_dict(summed.state_dict())
    nn.init.zeros_(summed.linear.bias), nn.init.zeros_(averaged.linear.bias)
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(9 * averaged(images), summed(images))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (sngan.Generator, {"resolution": 96}, "resolution=96 must be 48 or a power of two of at least 32"),
        (sngan.Discriminator, {"resolution": 32, "pooling": "max"}, "pooling='max' must be one of: sum, mean"),
        (sagan.Discriminator, {"resolution": 32, "hidden": "thin"}, "hidden='thin' must be one of: output, input"),
        (sagan.Discriminator, {"resolution": 64, "coarsest": 5}, "coarsest=5 must be resolution=64 halved: 32, 16, 8"),
        (sagan.Discriminator, {"resolution": 64, "coarsest": 64}, "coarsest=64 must be resolution=64 halved"),
        (sagan.Discriminator, {"resolution": 64, "coarsest": 0}, "coarsest=0 must be resolution=64 halved"),
        (sagan.Discriminator, {"resolution": 64, "multiples": (1, 2)}, r"multiples=\(1, 2\) must be at least 4"),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        network(**options)
