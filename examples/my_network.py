"""Networks of one's own: plain `torch.nn.Module`s, which train alike on any number of processes and after a resume.

The recipe passes on what the data decides, `resolution`, `channels` and `classes`, where a constructor asks for it. Two
things differ from plain torch: batch norm counts the pictures of all processes, and random numbers inside a network are
given to it (`stochastic`). A launch names layers of torch that would not do, and what replaces them.

    accelerate launch --config_file launch/accelerate/cpu_2.yaml examples/my_network.py \\
        --data recipes/data/fashion_mnist --out runs/my_network --images 20k
    framework sample runs/my_network --network examples/my_network.py:Generator --classes Sneaker --out grid.png
    framework evaluate runs/my_network --network examples/my_network.py:Generator \\
        --metric examples/my_metric.py:Brightness
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework import (
    Adam,
    Alternating,
    ConditionalBatchNorm2d,
    Draw,
    Dropout,
    Hinge,
    Network,
    Player,
    Recipe,
    Shards,
    launch,
    spectral_norm,
)


class Generator(nn.Module):
    """Pictures (N, channels, H, W) in [-1, 1] from latents (N, z_dim) and classes (N,), with noise in every pixel."""

    def __init__(self, *, resolution: int, channels: int, classes: int, z_dim: int = 32, width: int = 16) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.shape = (width, resolution // 4, resolution // 4)
        self.first = nn.Linear(z_dim, width * (resolution // 4) ** 2)
        self.norm = ConditionalBatchNorm2d(width, classes)
        self.strength = nn.Parameter(torch.full((width, 1, 1), 0.1))
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def stochastic(self, draw: Draw) -> dict[str, Tensor]:
        """Return what `forward` is given in training besides latents and classes: functions of the clock."""
        return {"noise": draw.normal("noise", 1, *self.shape[1:])}

    def forward(self, z: Tensor, labels: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """Return pictures; samples are drawn without noise."""
        x = self.first(z).unflatten(1, self.shape)
        if noise is not None:
            x = x + self.strength * noise
        x = functional.interpolate(torch.relu(self.norm(x, labels)), scale_factor=4)
        return torch.tanh(self.last(x))


class Discriminator(nn.Module):
    """Logits (N,) of pictures (N, channels, H, W) of some classes (N,), with spectral norm and dropout."""

    def __init__(self, *, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)),
                spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1)),
            ]
        )
        self.dropout = Dropout(0.2, layer=0)
        self.real = spectral_norm(nn.Linear(width, 1))
        self.of_class = spectral_norm(nn.Embedding(classes, width))

    def stochastic(self, draw: Draw) -> dict[str, Tensor]:
        """Return a seed per picture, from which dropout makes its masks."""
        return {"seeds": draw.integers("dropout", 1 << 62)}

    def forward(self, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None) -> Tensor:
        """Return the logit of a real picture, to which its class contributes (arXiv:1802.05637)."""
        x = images
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        x = self.dropout(x.mean((2, 3)), seeds)
        return self.real(x).squeeze(1) + (self.of_class(labels) * x).sum(1)


RECIPE = Recipe(
    name="my_network",
    paper="an example",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1, classes=10),
    generator=Player(network=Network(Generator, width=32), optimizer=Adam(lr=1e-3)),
    discriminator=Player(network=Network(Discriminator, width=32), optimizer=Adam(lr=1e-3)),
    game=Alternating(loss=Hinge()),
    batch_size=32,
    images=100_000,
)

if __name__ == "__main__":
    launch(RECIPE)
