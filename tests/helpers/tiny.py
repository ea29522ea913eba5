"""Very small players without kinks, with one normalisation each: what every penalty is tried on, on every engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework import (
    R1,
    R2,
    Adam,
    Alternating,
    Averaging,
    Drift,
    GradientPenalty,
    LeCam,
    Network,
    NonSaturating,
    Orthogonal,
    PathLength,
    Player,
    Recipe,
    Shards,
)
from framework.networks.blocks.adain import AdaIN
from framework.networks.blocks.minibatch import MinibatchStddev
from framework.networks.blocks.modulated import modulated_conv2d
from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d
from framework.networks.blocks.spectral import spectral_norm
from framework.objectives.consistency import Consistency
from framework.objectives.first_order import FirstOrderR1
from framework.objectives.lipschitz import Dragan, MaxGradientPenalty
from framework.objectives.penalties import Penalty, WeightDecay

WIDTH = 6


class Normalised(nn.Module):
    """A 3x3 convolution and a normalisation, which may look at a vector per image."""

    def __init__(self, channels: int, kind: str, *, w_dim: int) -> None:
        super().__init__()
        self.kind = kind
        # A bias before a batch norm has the gradient 0: what is left is rounding, from which Adam makes full steps.
        self.conv = nn.Conv2d(channels, WIDTH, 3, padding=1, bias="batch norm" not in kind)
        if kind == "spectral norm":
            spectral_norm(self.conv)
        elif kind == "batch norm":
            self.norm = BatchNorm2d(WIDTH)
        elif kind == "conditional batch norm":
            self.norm = ConditionalBatchNorm2d(WIDTH, w_dim)
        elif kind == "AdaIN":
            self.norm = AdaIN(WIDTH, w_dim=w_dim)
        elif kind == "weight demodulation":
            self.style = nn.Linear(w_dim, channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        if self.kind == "weight demodulation":
            styles = 1 + self.style(w)
            x = modulated_conv2d(x, self.conv.weight, styles, padding=1) + self.conv.bias[:, None, None]
        else:
            x = self.conv(x)
        if self.kind == "pixel norm":
            x = x * (x.square().mean(1, keepdim=True) + 1e-2).rsqrt()
        elif self.kind == "batch norm":
            x = self.norm(x)
        elif self.kind in ("conditional batch norm", "AdaIN"):
            x = self.norm(x, w)
        return functional.silu(x)


class Synthesis(nn.Module):
    """Styles (N, 1, w_dim) -> images (N, channels, 4, 4)."""

    def __init__(self, channels: int, kind: str, w_dim: int) -> None:
        super().__init__()
        self.start = nn.Linear(w_dim, WIDTH * 16)
        self.block = Normalised(WIDTH, kind, w_dim=w_dim)
        self.to_image = nn.Conv2d(WIDTH, channels, 1)

    def forward(self, ws: Tensor) -> Tensor:
        w = ws[:, 0]
        x = self.start(w).unflatten(1, (WIDTH, 4, 4))
        return torch.tanh(self.to_image(self.block(x, w)))


class Mapping(nn.Module):
    """(N, z_dim), (N,) -> (N, 1, w_dim)."""

    def __init__(self, z_dim: int, classes: int, w_dim: int) -> None:
        super().__init__()
        self.linear, self.label = nn.Linear(z_dim, w_dim), nn.Embedding(classes, w_dim)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return functional.silu(self.linear(z) + self.label(labels))[:, None]


class Generator(nn.Module):
    """(N, z_dim), (N,) -> (N, channels, 4, 4)."""

    def __init__(self, *, resolution: int, channels: int, classes: int, kind: str, z_dim: int = 5) -> None:
        super().__init__()
        assert resolution == 4
        self.z_dim = z_dim
        self.mapping = Mapping(z_dim, classes, 5)
        self.synthesis = Synthesis(channels, kind, 5)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.synthesis(self.mapping(z, labels))


class Discriminator(nn.Module):
    """(N, channels, 4, 4), (N,) -> (N,)."""

    def __init__(self, *, resolution: int, channels: int, classes: int, kind: str) -> None:
        super().__init__()
        assert resolution == 4
        self.embedding = nn.Embedding(classes, WIDTH)
        self.block = Normalised(channels, kind, w_dim=WIDTH)
        self.stddev = MinibatchStddev(group_size=2) if kind == "minibatch deviation" else None
        self.linear = nn.Linear((WIDTH + (self.stddev is not None)) * 16, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        w = self.embedding(labels)
        x = self.block(images, w)
        if self.stddev is not None:
            x = self.stddev(x)
        return self.linear(x.flatten(1)).squeeze(1) + (w * x.mean((2, 3))[:, :WIDTH]).sum(1)


TERMS: dict[str, Callable[[], tuple[tuple[Penalty, ...], tuple[Penalty, ...], bool]]] = {
    "none": lambda: ((), (), False),
    "R1 joined": lambda: ((R1(weight=1.0, every=2),), (), False),
    "R1 lazy": lambda: ((R1(weight=1.0, every=2),), (), True),
    "R2": lambda: ((R2(weight=1.0),), (), False),
    "FirstOrderR1": lambda: ((FirstOrderR1(weight=1.0, sigma=0.1),), (), False),
    "GradientPenalty": lambda: ((GradientPenalty(),), (), False),
    "MaxGradientPenalty": lambda: ((MaxGradientPenalty(weight=1.0),), (), False),
    "Dragan": lambda: ((Dragan(weight=1.0),), (), False),
    "LeCam": lambda: ((LeCam(weight=0.1),), (), False),
    "Drift": lambda: ((Drift(weight=0.1),), (), False),
    "Orthogonal": lambda: ((Orthogonal(weight=0.01),), (Orthogonal(weight=0.01),), False),
    "PathLength": lambda: ((), (PathLength(every=2, shrink=1),), True),
    "WeightDecay": lambda: ((WeightDecay(weight=0.01),), (WeightDecay(weight=0.01),), False),
    "Consistency": lambda: ((Consistency(weight=1.0),), (), False),
}
"""By name: the discriminator's terms, the generator's, and whether lazy ones get a step of their own."""


def recipe(penalties: tuple[str, ...], kind: str) -> Recipe:
    """A game of four-pixel images with these penalties and, in both players, one normalisation."""
    chosen = [TERMS[penalty]() for penalty in penalties]
    discriminator_terms = tuple(term for terms, _, _ in chosen for term in terms)
    generator_terms = tuple(term for _, terms, _ in chosen for term in terms)
    lazy_steps = any(lazy for _, _, lazy in chosen)
    adam = Adam(lr=1e-3, betas=(0.0, 0.99))
    return Recipe(
        name="tiny",
        paper="none",
        data=Shards(location="synthetic", resolution=4, channels=1, classes=3),
        generator=Player(network=Network(Generator, kind=kind), optimizer=adam),
        discriminator=Player(network=Network(Discriminator, kind=kind), optimizer=adam),
        game=Alternating(
            loss=NonSaturating(),
            discriminator_terms=discriminator_terms,
            generator_terms=generator_terms,
            lazy_steps=lazy_steps,
        ),
        averaging=Averaging(half_life_images=50),
        batch_size=8,
        images=10_000,
    )
