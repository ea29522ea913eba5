"""A loss of one's own: an adversarial loss, and a term that compares what the discriminator sees inside.

The generator of a GAN can be asked to match the mean features of real pictures (Salimans et al. 2016, arXiv:1606.03498,
section 3.1). So the discriminator returns more than logits, and the generator's turn has two terms: both are logged
under their names, and `--set game.generator_terms.0.weight=2` changes one of them.

    python examples/my_loss.py --data recipes/data/fashion_mnist --out runs/my_loss --images 20k
    framework sample runs/my_loss --network examples/my_loss.py:Generator --out grid.png
    framework evaluate runs/my_loss --network examples/my_loss.py:Generator --metric examples/my_metric.py:Brightness
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from framework import Adam, Alternating, Equilibrium, Network, Player, Recipe, Shards, Term, TermInputs, launch
from framework.networks import mlp


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Hinge loss with a margin: logits of real samples should be above it, those of generated ones below -margin."""

    margin: float = 1.0
    needs_real_logits: ClassVar[bool] = False

    @property
    def equilibrium(self) -> Equilibrium:
        """A discriminator that cannot tell answers 0; sentinels and ADA measure from there."""
        return Equilibrium.at(self, logit=0.0)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a mean over the samples given."""
        return torch.relu(self.margin - real_logits).mean() + torch.relu(self.margin + fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a mean over the samples given."""
        return -fake_logits.mean()


@dataclass(frozen=True, kw_only=True)
class FeatureMatching(Term):
    """The distance between features of generated pictures and those of real ones, sample by sample in a batch."""

    players: ClassVar[tuple[str, ...]] = ("generator",)
    needs_real_output: ClassVar[bool] = True

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean absolute difference, a scalar."""
        return (inputs.outputs["fake"].features - inputs.outputs["real"].features).abs().mean()


@dataclass(frozen=True)
class Judged:
    """What the discriminator returns: games look at `logits`, terms find the rest by name."""

    logits: Tensor
    features: Tensor


class Generator(mlp.Generator):
    """A network of the package under a name of this file."""


class Discriminator(nn.Module):
    """Two layers; the features are what the first one sees."""

    def __init__(self, *, resolution: int, channels: int, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Linear(channels * resolution**2, width)
        self.last = nn.Linear(width, 1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Judged:
        """Return logits (N,) and features (N, width) of pictures (N, C, H, W)."""
        features = torch.nn.functional.leaky_relu(self.first(images.flatten(1)), 0.2)
        return Judged(logits=self.last(features).squeeze(1), features=features)


RECIPE = Recipe(
    name="my_loss",
    paper="an example",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(network=Network(Generator, z_dim=32), optimizer=Adam(lr=1e-3)),
    discriminator=Player(network=Network(Discriminator), optimizer=Adam(lr=1e-3)),
    game=Alternating(loss=Margin(), generator_terms=(FeatureMatching(weight=10.0),)),
    batch_size=32,
    images=100_000,
)

if __name__ == "__main__":
    launch(RECIPE)
