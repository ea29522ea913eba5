"""The networks of a stacked GAN: sizes, what is given in place of what, and where gradients end."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import FrameworkError
from framework.networks import stacked
from framework.networks.stacked import Generated

SMALL: dict[str, Any] = {"resolution": 16, "features": 6, "z_dims": (3, 2), "width": 4}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def dense(*sizes: int, bias: bool = True) -> int:
    return sum(a * b + (b if bias else 0) for a, b in itertools.pairwise(sizes))


def small(**changes: Any) -> stacked.Generator:
    torch.manual_seed(0)
    return stacked.Generator(classes=5, hidden=8, embedding=4, **(SMALL | changes))


def drawn(number: int = 7, *, z_dim: int = 5) -> tuple[Tensor, Tensor]:
    return torch.rand(number, z_dim), torch.arange(number) % 5


def test_the_networks_have_the_sizes_of_the_authors_program() -> None:
    """Counted from its layers: dense and 5x5 layers, without a bias where a norm follows, two numbers a norm's unit."""
    encoder = stacked.Encoder()
    assert count(encoder) == (25 * 32 + 32) + (25 * 32 * 32 + 32) + dense(32 * 4 * 4, 256, 10)
    generator = stacked.Generator(resolution=32)
    assert generator.z_dim == 100
    upper = dense(50 + 10, 512, 512, bias=False) + 2 * (512 + 512) + dense(512, 256)
    assert count(generator.to_features) == upper
    maps = dense(50, 128, bias=False) + dense(256 + 128, 128 * 16, bias=False) + 2 * (128 + 128 * 16)
    # 4 px to 8, 16 and 32, where the program has 8, 12, 24 and 28.
    lower = 25 * (128 * 128 + 128 * 64 + 64 * 64) + 2 * (128 + 64 + 64) + (25 * 64 + 1)
    assert count(generator.to_images) == maps + lower
    discriminator = stacked.Discriminator(resolution=32)
    assert count(discriminator.of_features) == dense(256, 256, 256) + dense(256, 50) + dense(256, 1)
    convolutions = sum(25 * a * b + b for a, b in itertools.pairwise((1, 32, 64, 128)))
    assert count(discriminator.of_images) == convolutions + dense(128 * 16, 256) + dense(256, 50) + dense(256, 1)


@pytest.mark.parametrize("resolution", [8, 16, 64])
def test_they_are_built_for_other_pictures(resolution: int) -> None:
    network = small(resolution=resolution, channels=3)
    z, labels = drawn()
    images = network(z, labels)
    assert images.shape == (7, 3, resolution, resolution)
    assert float(images.detach().abs().max()) < 1
    judge = stacked.Discriminator(hidden=8, **(SMALL | {"resolution": resolution, "channels": 3}))
    said = judge(images, torch.rand(7, 6))
    assert [tuple(logits.shape) for logits in said.logits] == [(7,), (7,)]
    assert [tuple(noise.shape) for noise in said.noise] == [(7, 3), (7, 2)]
    if resolution >= 16:
        encoder = stacked.Encoder(resolution=resolution, channels=3, features=6, classes=5, width=4)
        assert encoder.encode(images).shape == (7, 6)
        assert encoder(images).shape == (7, 5)


def test_given_features_stand_in_for_the_first_ones_that_were_made() -> None:
    network = small().eval()
    z, labels = drawn()
    own = network(z, labels, torch.empty(0, 6))
    assert torch.equal(own.images, network(z, labels)), "as when samples are drawn"
    assert torch.equal(own.condition, own.features)
    given = torch.rand(3, 6)
    mixed = network(z, labels, given)
    assert torch.equal(mixed.features, own.features), "the upper level makes all of them"
    assert torch.equal(mixed.condition, torch.cat([given, own.features[3:]]))
    assert torch.allclose(mixed.images[3:], own.images[3:], atol=1e-6)
    assert not torch.allclose(mixed.images[:3], own.images[:3], atol=1e-4)


@pytest.mark.parametrize("part", ["features", "images"])
def test_each_generator_follows_its_own_level_alone(part: str) -> None:
    network = small()
    made = network(*drawn(), torch.empty(0, 6))
    getattr(made, part).square().sum().backward()
    reached = {name.partition(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"features": {"to_features"}, "images": {"to_images"}}[part]


def test_noise_of_each_level_goes_to_its_generator() -> None:
    network = small().eval()
    z, labels = drawn()
    made: Generated = network(z, labels, torch.empty(0, 6))
    other = z.clone()
    other[:, 3:] = torch.rand(7, 2)
    lower: Generated = network(other, labels, torch.empty(0, 6))
    assert torch.equal(lower.features, made.features)
    assert not torch.equal(lower.images, made.images)
    other = z.clone()
    other[:, :3] = torch.rand(7, 3)
    given = torch.rand(7, 6)
    assert torch.equal(network(other, labels, given).images, network(z, labels, given).images)
    assert not torch.equal(network(other, labels, given).features, made.features)
    assert not torch.equal(network(z, (labels + 1) % 5, given).features, made.features)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: small(resolution=24), "resolution=24 must be a power of two of at least 8"),
        (lambda: small(z_dims=(3, 0)), r"z_dims=\(3, 0\) two numbers of at least 1"),
        (lambda: small(width=0), "width=0 must be at least 1"),
        (lambda: stacked.Generator(classes=0), "classes=0 must be at least 2"),
        (lambda: stacked.Generator(embedding=0), "embedding=0 at least 1"),
        (lambda: stacked.Discriminator(features=0), "features=0 must be at least 1"),
        (lambda: stacked.Discriminator(hidden=0), "hidden=0 must be at least 1"),
        (lambda: stacked.Encoder(resolution=12), "resolution=12 must be at least 16"),
        (lambda: stacked.Encoder(channels=0), "channels=0 must be at least 1"),
    ],
)
def test_sizes_that_cannot_be_built_are_named(build: Any, why: str) -> None:
    with pytest.raises(FrameworkError, match=why):
        build()
