"""Players without kinks in which no image sees another one: more micro-batches compute the same function.

FRAMEWORK_TEST_STEP_SECONDS makes every step last at least so long, so that faults have a step to happen in.
"""

from __future__ import annotations

import dataclasses
import os
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework import Network, launch
from framework.networks.blocks.spectral import spectral_norm
from tests.recipes.smooth import RECIPE as SMOOTH

STEP_SECONDS = float(os.environ.get("FRAMEWORK_TEST_STEP_SECONDS", "0"))


class Generator(nn.Module):
    """(N, z_dim), (N,) -> (N, channels, 8, 8)."""

    def __init__(self, *, resolution: int, channels: int, classes: int, z_dim: int = 8, width: int = 16) -> None:
        super().__init__()
        self.z_dim, self.width = z_dim, width
        self.linear = spectral_norm(nn.Linear(z_dim + classes, width * 16))
        self.conv = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.to_image = spectral_norm(nn.Conv2d(width, channels, 3, padding=1))
        self.classes = classes

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            time.sleep(STEP_SECONDS / 2)  # once in each turn
        x = self.linear(torch.cat([z, functional.one_hot(labels, self.classes).to(z.dtype)], 1))
        x = functional.interpolate(functional.silu(x.unflatten(1, (self.width, 4, 4))), scale_factor=2.0)
        return torch.tanh(self.to_image(functional.silu(self.conv(x))))


GENERATOR = dataclasses.replace(SMOOTH.generator, network=Network(Generator))
RECIPE = dataclasses.replace(SMOOTH, name="unnormalised", generator=GENERATOR)

if __name__ == "__main__":
    launch(RECIPE)
