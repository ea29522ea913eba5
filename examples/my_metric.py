"""A metric of one's own: tensors that add up over samples, and a value from the sums.

The framework draws the samples, shares them among the processes, adds the tensors up, and writes the value down with
its protocol: the definition, the constants, the samples. Whoever changes the arithmetic changes the definition, and the
values go on under a line of their own.

    python examples/my_metric.py --data recipes/data/fashion_mnist --out runs/my_metric --images 20k \\
        --eval-every-images 5k
    framework sample runs/my_metric --out grid.png
    framework evaluate runs/my_metric --metric examples/my_metric.py:Brightness
    framework evaluate runs/my_loss --network examples/my_loss.py:Generator --metric examples/my_metric.py:Brightness
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from framework import Adam, Alternating, Hinge, Network, Player, Recipe, SampleMetric, Shards, launch
from framework.networks import mlp


@dataclass(frozen=True, kw_only=True)
class Brightness(SampleMetric):
    """How bright pictures are, and how much they differ in that: a generator that repeats itself has a small spread."""

    name = "brightness"
    definition = "mean over pictures of a picture's mean pixel from 0 to 1, and its standard deviation over pictures"
    samples = ("image",)
    default_count = 1_000
    higher_is_better = ("brightness", "brightness_spread")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the values; a metric with one value needs no such property."""
        return ("brightness", "brightness_spread")

    def accumulate(self, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what adds up, of n pictures uint8 (n, C, H, W): their number, and sums of whole numbers."""
        pictures = samples["image"]
        total = pictures.double().sum((1, 2, 3))
        count = torch.tensor(float(len(pictures)), dtype=torch.float64)
        pixels = count * pictures[0].numel()
        return {"count": count, "pixels": pixels, "sum": total.sum(), "squares": total.square().sum()}

    def value(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return both values from the sums over all samples."""
        count, full = sums["count"], 255 * sums["pixels"] / sums["count"]
        mean = sums["sum"] / count / full
        variance = sums["squares"] / count / full**2 - mean**2
        return {"brightness": float(mean), "brightness_spread": float(variance.clamp_min(0).sqrt())}


RECIPE = Recipe(
    name="my_metric",
    paper="an example",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(network=Network(mlp.Generator, z_dim=32), optimizer=Adam(lr=1e-3)),
    discriminator=Player(network=Network(mlp.Discriminator), optimizer=Adam(lr=2e-4)),
    game=Alternating(loss=Hinge()),
    batch_size=32,
    images=100_000,
    metrics=(Brightness(),),
)

if __name__ == "__main__":
    launch(RECIPE)
