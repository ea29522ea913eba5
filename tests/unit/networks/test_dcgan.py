import pytest
import torch
from torch import nn

from framework.networks import dcgan
from framework.networks.blocks.norm import BatchNorm2d
from framework.utils.errors import FrameworkError


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_those_of_public_implementations() -> None:
    with torch.device("meta"):  # pytorch/examples and pytorch_GAN_zoo, both with 64 channels at 32 px
        assert num_parameters(dcgan.Generator(width=64)) == 3_576_704
        assert num_parameters(dcgan.Discriminator(width=64)) == 2_765_568


def test_feature_maps_are_those_of_figure_1() -> None:
    seen = []
    with torch.device("meta"):
        generator = dcgan.Generator()
        for norm in generator.norms:
            norm.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
        assert generator(torch.zeros(2, 100)).shape == (2, 3, 64, 64)
    assert seen == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32)]


@pytest.mark.parametrize("resolution", [8, 32, 128])
def test_other_resolutions(resolution: int) -> None:
    with torch.device("meta"):
        generator = dcgan.Generator(resolution=resolution, channels=1, width=2, z_dim=5)
        discriminator = dcgan.Discriminator(resolution=resolution, channels=1, width=2)
        images = generator(torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64))
        assert images.shape == (3, 1, resolution, resolution)
        assert discriminator(images, torch.zeros(3, dtype=torch.int64)).shape == (3,)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    for network in (dcgan.Generator(width=32), dcgan.Discriminator(width=32)):
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.weight.numel() > 1000:
                # The standard error of a deviation estimated from n numbers is 0.02 / sqrt(2 n): below 0.0005 here.
                assert module.weight.std().item() == pytest.approx(0.02, abs=0.002)
                assert abs(module.weight.mean().item()) < 0.002
            if isinstance(module, BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1.0, abs=0.02)
                assert 0.005 < module.weight.std().item() < 0.04
                assert not module.bias.any()


def test_statistics_reach_every_norm() -> None:
    for network in (dcgan.Generator(width=2, statistics="local"), dcgan.Discriminator(width=2, statistics="local")):
        norms = [module for module in network.modules() if isinstance(module, BatchNorm2d)]
        assert len(norms) in (3, 4)
        assert all(norm.statistics == "local" for norm in norms)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (dcgan.Generator, {"resolution": 48}, "resolution=48 must be a power of two of at least 8"),
        (dcgan.Discriminator, {"resolution": 4}, "resolution=4 must be a power of two of at least 8"),
        (dcgan.Generator, {"z_dim": 0}, "z_dim=0 must be at least 1"),
        (dcgan.Discriminator, {"width": 0}, "width=0 must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        network(**options)
