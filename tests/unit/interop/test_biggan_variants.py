"""BigGAN, shared, hierarchical and deep, under the names of two projects, against a plain reference."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from framework import interop
from framework.networks import biggan, biggan_deep, sagan
from framework.utils.errors import FrameworkError

from .reference import Names, generator

CLASSES, SHARED, CHUNK, WIDTH = 5, 6, 3, 4
CHANNELS = 4 * WIDTH
"""Everywhere, at 32 px."""


def blocks(deep: bool) -> list[dict[str, tuple[int, ...]]]:
    """Shapes of the convolutions of each block, by number; 0 is the shortcut."""
    hidden = CHANNELS // 4
    plain = {"1": (CHANNELS, CHANNELS, 3, 3), "2": (CHANNELS, CHANNELS, 3, 3), "0": (CHANNELS, CHANNELS, 1, 1)}
    bottleneck = {
        "1": (hidden, CHANNELS, 1, 1),
        "2": (hidden, hidden, 3, 3),
        "3": (hidden, hidden, 3, 3),
        "4": (CHANNELS, hidden, 1, 1),
    }
    return [bottleneck] * 6 if deep else [plain] * 3


class Builder:
    """A random state under one project's names."""

    def __init__(self, project: str) -> None:
        self.ajbrock = project == "biggan-pytorch"
        self.random = torch.Generator().manual_seed(0)
        self.state: dict[str, Tensor] = {}

    def draw(self, name: str, *shape: int, positive: bool = False) -> None:
        values = torch.randn(shape, generator=self.random)
        self.state[name] = values.abs() + 0.5 if positive else 0.3 * values

    def spectral(self, name: str, *shape: int, bias: bool = True) -> None:
        self.draw(f"{name}.{'weight' if self.ajbrock else 'weight_orig'}", *shape)
        u = functional.normalize(torch.randn(shape[0], generator=self.random), dim=0)
        if self.ajbrock:
            self.state |= {f"{name}.u0": u[None], f"{name}.sv0": torch.ones(1)}
        else:
            matrix = self.state[f"{name}.weight_orig"].flatten(1)
            self.state |= {f"{name}.weight_u": u, f"{name}.weight_v": functional.normalize(u @ matrix, dim=0)}
        if bias:
            self.draw(f"{name}.bias", shape[0])

    def norm(self, name: str, channels: int, condition: int) -> None:
        for part in ("gain", "bias"):
            self.spectral(f"{name}.{part}", channels, condition, bias=False)
        mean, variance = ("stored_mean", "stored_var") if self.ajbrock else ("bn.running_mean", "bn.running_var")
        self.draw(f"{name}.{mean}", channels)
        self.draw(f"{name}.{variance}", channels, positive=True)


def build(project: str, variant: str) -> tuple[dict[str, Tensor], Names, int]:
    """State, names and length of the latent."""
    made, deep = Builder(project), variant == "deep"
    shapes = blocks(deep)
    z_dim = 4 * CHUNK if variant == "hierarchical" else 7
    condition = {"hierarchical": SHARED + CHUNK, "shared": SHARED, "deep": SHARED + z_dim}[variant]
    first = {"hierarchical": CHUNK, "shared": z_dim, "deep": condition}[variant]
    stage_ends = 3 if deep else 1  # attention at 16 px follows the last block of the second stage
    ours = made.ajbrock
    numbers = list(range(len(shapes))) if ours else [n + (n > stage_ends) for n in range(len(shapes))]
    names = Names(
        linear="linear" if ours else "linear0",
        blocks=[f"blocks.{number}.0" for number in numbers],
        convolution="conv" if ours else "conv2d",
        shortcut="conv_sc" if ours else "conv2d0",
        attention=f"blocks.{stage_ends}.1" if ours else f"blocks.{stage_ends + 1}.0",
        attention_layers=("theta", "phi", "g", "o", "gamma")
        if ours
        else ("conv1x1_theta", "conv1x1_phi", "conv1x1_g", "conv1x1_attn", "sigma"),
        attention_after=stage_ends,
        statistics=("stored_mean", "stored_var") if ours else ("bn.running_mean", "bn.running_var"),
        final_norm=[f"output_layer.0.{end}" for end in ("gain", "bias", "stored_mean", "stored_var")]
        if ours
        else [f"bn4.{end}" for end in ("weight", "bias", "running_mean", "running_var")],
        to_image="output_layer.2" if ours else "conv2d5",
        eps=1e-5 if ours else 1e-4,
    )
    made.draw("shared.weight", CLASSES, SHARED)
    made.spectral(names.linear, CHANNELS * 16, first)
    for block, convolutions in zip(names.blocks, shapes, strict=True):
        for number, shape in convolutions.items():
            made.spectral(f"{block}.{names.shortcut if number == '0' else names.convolution + number}", *shape)
            if number != "0":
                made.norm(f"{block}.bn{number}", shape[1], condition)
    theta, phi, g, o, gamma = (f"{names.attention}.{layer}" for layer in names.attention_layers)
    for name, shape in {
        theta: (CHANNELS // 8, CHANNELS),
        phi: (CHANNELS // 8, CHANNELS),
        g: (CHANNELS // 2, CHANNELS),
    }.items():
        made.spectral(name, *shape, 1, 1, bias=False)
    made.spectral(o, CHANNELS, CHANNELS // 2, 1, 1, bias=False)
    made.state[gamma] = torch.tensor(0.7) if ours else torch.tensor([0.7])
    for name in names.final_norm:
        made.draw(name, CHANNELS, positive=name == names.final_norm[-1])
    made.spectral(names.to_image, 3, CHANNELS, 3, 3)
    return made.state, names, z_dim


@pytest.mark.parametrize("project", ["biggan-pytorch", "studiogan"])
@pytest.mark.parametrize("variant", ["shared", "hierarchical", "deep"])
@torch.no_grad()
def test_generators(project: str, variant: str) -> None:
    state, names, z_dim = build(project, variant)
    loaded = interop.understand(project, "generator", state)
    expected: dict[str, Any] = {"resolution": 32, "classes": CLASSES, "z_dim": z_dim, "attention_at": 16}
    assert expected.items() <= loaded.description.options.items()
    assert loaded.description.cls is (biggan_deep.Generator if variant == "deep" else biggan.Generator)
    z = torch.randn(4, z_dim, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 2, 4, 4])
    images = generator(state, names, z, labels, deep=variant == "deep")
    assert images.std() > 0.1
    for given in (labels, functional.one_hot(labels, CLASSES).float()):
        torch.testing.assert_close(loaded.network(z, given), images, atol=2e-5, rtol=0.0)


def test_two_attentions_are_refused() -> None:
    state, _, _ = build("biggan-pytorch", "shared")
    twice = {
        re.sub(r"^blocks\.1\.1", "blocks.0.1", name): t for name, t in state.items() if name.startswith("blocks.1.1")
    }
    with pytest.raises(FrameworkError, match="attention at 2 places"):
        interop.load("biggan-pytorch", "generator", state | twice)


@torch.no_grad()
def test_a_discriminator_that_attends_after_every_block() -> None:
    """BigGAN-PyTorch calls all feature maps of its 32 px discriminator 16 px, so attention at 16 stands four times."""
    torch.manual_seed(0)
    ours = sagan.Discriminator(
        resolution=32, width=8, classes=CLASSES, attention_at=16, attention_repeats=True, spectral=False
    )
    for block in (ours.attention, *ours.later_attention):
        block.gamma.fill_(0.5)
    state = {}
    for name, tensor in ours.state_dict().items():
        name = re.sub(r"^blocks\.(\d+)\.", r"blocks.\1.0.", name).replace(".shortcut.", ".conv_sc.")
        name = re.sub(r"^attention\.", "blocks.0.1.", name)
        name = re.sub(r"^later_attention\.(\d+)\.", lambda match: f"blocks.{int(match[1]) + 1}.1.", name)
        state[name.replace("embedding.", "embed.")] = tensor
    loaded = interop.load("biggan-pytorch", "discriminator", state)
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 2, 4, 4])
    torch.testing.assert_close(loaded(images, labels), ours(images, labels))
    ours.later_attention[2].gamma.zero_()
    assert not torch.allclose(loaded(images, labels), ours(images, labels))
