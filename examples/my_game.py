"""A game of one's own: three players, the generator first, and a code that can be read off the samples.

InfoGAN (Chen et al. 2016, arXiv:1606.03657) feeds the generator a class beside its noise, and a third network has to
find that class in the sample: so the class comes to mean something, without any label. A game lists its turns, and says
what a turn looks at; `LatentGame` knows the rest of a game from latents: how samples are drawn, shown, and checked.

    python examples/my_game.py --data recipes/data/fashion_mnist --out runs/my_game --images 20k
    framework sample runs/my_game --out grid.png
    framework evaluate runs/my_game --metric examples/my_metric.py:Brightness
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from framework import (
    Adam,
    Adversarial,
    AdversarialLoss,
    Categorical,
    Draw,
    Forward,
    Gaussian,
    LatentGame,
    Network,
    NonSaturating,
    Player,
    Recipe,
    Shards,
    Term,
    TermInputs,
    Turn,
    launch,
)
from framework.networks import mlp


@dataclass(frozen=True, kw_only=True)
class CodeFound(Term):
    """The cross-entropy of the code that a sample was made from: a bound on their mutual information (equation 5)."""

    weight: float = 1.0
    players: ClassVar[tuple[str, ...]] = ("generator", "reader")

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean over samples, a scalar."""
        return functional.cross_entropy(inputs.outputs["code"], inputs.tensor("code"))


@dataclass(frozen=True, kw_only=True)
class InfoGAN(LatentGame):
    """The generator plays against the discriminator, and together with the reader of its code."""

    loss: AdversarialLoss
    code: Term

    players: ClassVar[tuple[str, ...]] = ("generator", "discriminator", "reader")

    def turns(self) -> tuple[Turn, ...]:
        """Return the three turns, all on one batch; turns with the same draws see the same generated samples."""
        loss = Adversarial(loss=self.loss)
        through = ("discriminator", "reader")
        return (
            Turn(player="generator", terms=(loss, self.code), draws="samples", fresh=True, through=through),
            Turn(player="reader", terms=(self.code,), draws="samples"),
            Turn(player="discriminator", terms=(loss,), draws="samples"),
        )

    def inputs(self, forward: Forward) -> TermInputs:
        """Return what the usual turns look at, and what the reader says of the samples."""
        usual = super().inputs(forward)
        if forward.turn.player == "discriminator":
            return usual
        code = forward.widened(forward.run("reader", usual.fake))
        return replace(usual, outputs={**usual.outputs, "code": code})

    def arguments(self, player: str) -> tuple[str, ...]:
        """Return what a player's forward is called with, in words for messages."""
        return ("images",) if player == "reader" else super().arguments(player)

    def example(self, player: str, network: nn.Module, fields: Mapping[str, Tensor], draw: Draw) -> tuple[Any, ...]:
        """Return what a player's forward is called with, for the check of networks."""
        return (fields["image"],) if player == "reader" else super().example(player, network, fields, draw)

    def output_fault(self, player: str, output: Any, fields: Mapping[str, Tensor]) -> str | None:
        """Say what is wrong with what a player returned; None if nothing is."""
        if player != "reader":
            return super().output_fault(player, output, fields)
        return None if output.dim() == 2 else f"a tensor of shape {tuple(output.shape)}, not logits (N, classes)"


class Reader(nn.Module):
    """Says which code a picture was made from: logits (N, codes)."""

    def __init__(self, *, resolution: int, channels: int, codes: int, width: int = 64) -> None:
        super().__init__()
        pixels = channels * resolution**2
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, codes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, codes) of pictures (N, C, H, W)."""
        return self.layers(images)


RECIPE = Recipe(
    name="my_game",
    paper="an example after InfoGAN, Chen et al. 2016, arXiv:1606.03657",
    data=Shards(location="data/fashion_mnist", resolution=32, channels=1),
    generator=Player(network=Network(mlp.Generator, z_dim=42), optimizer=Adam(lr=1e-3)),
    discriminator=Player(network=Network(mlp.Discriminator), optimizer=Adam(lr=2e-4)),
    other_players={"reader": Player(network=Network(Reader, codes=10), optimizer=Adam(lr=1e-3))},
    game=InfoGAN(loss=NonSaturating(), code=CodeFound(), latents=(Gaussian(32), Categorical(10, name="code"))),
    batch_size=32,
    images=100_000,
)

if __name__ == "__main__":
    launch(RECIPE)
