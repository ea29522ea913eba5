"""An optimiser of one's own: one of torch's, as a frozen dataclass of its numbers.

The class says how torch's optimiser is built, which tensors it keeps of each parameter (checkpoints hold them, whole or
sharded), and what moves with the clock. Before a run begins it is tried on six numbers: stopped after a step and
resumed, it must go on as if nothing had happened.

    python examples/my_optimizer.py --data recipes/data/fashion_mnist --out runs/my_optimizer --images 20k
    framework sample runs/my_optimizer --out grid.png
    framework evaluate runs/my_optimizer --metric examples/my_metric.py:Brightness
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from framework import Alternating, Network, NonSaturating, Player, Recipe, RMSProp, Shards, launch
from framework.networks import dcgan


@dataclass(frozen=True, kw_only=True)
class Adamax:
    """Adam with the largest recent gradient in place of the root mean square (arXiv:1412.6980, section 7.1).

    `beta2` grows while training goes on, so that early, large gradients are soon forgotten.
    """

    lr: float
    beta1: float = 0.5
    early_beta2: float = 0.9
    beta2: float = 0.999
    early_images: int = 10_000
    """The clock, in images, until which `early_beta2` is used."""

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_inf")

    def hyperparameters_at(self, images_seen: int) -> Mapping[str, Any]:
        """Return what moves with the clock besides the learning rate, as torch's `param_groups` name it."""
        beta2 = self.early_beta2 if images_seen < self.early_images else self.beta2
        return {"betas": (self.beta1, beta2)}

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's optimiser over the parameters."""
        return torch.optim.Adamax(parameters, lr=self.lr, betas=(self.beta1, self.beta2))


RECIPE = Recipe(
    name="my_optimizer",
    paper="an example",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(network=Network(dcgan.Generator, z_dim=32, width=8), optimizer=Adamax(lr=2e-3)),
    discriminator=Player(network=Network(dcgan.Discriminator, width=8), optimizer=RMSProp(lr=2e-4), clip_norm=1.0),
    game=Alternating(loss=NonSaturating()),
    batch_size=32,
    images=100_000,
)

if __name__ == "__main__":
    launch(RECIPE)
