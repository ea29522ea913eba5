"""Samples of a network that translates pictures: the source, what was made of it, and what it should have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from framework.data.fields import Image
from framework.networks.draw import stochastic_inputs
from framework.sampling.draws import SampleDraws
from framework.sampling.generate import to_uint8
from framework.sampling.stored import StoredSamples


@torch.no_grad()
def translate(network: nn.Module, source: Tensor, *, seed: int, numbers: range) -> Tensor:
    """Translate pictures, in evaluation mode.

    Args:
        network: called with the sources (n, C, H, W) in [-1, 1]; where it draws random numbers (dropout at inference),
            they are functions of the seed and of a picture's number.
        source: uint8 (n, C, H, W) on the host.
        numbers: the numbers of the n pictures.

    Returns:
        uint8 (n, C', H, W) on the host.
    """
    parameter = next(network.parameters())
    pixels = source.to(parameter).div_(127.5).sub_(1.0)
    drawn = stochastic_inputs(network, SampleDraws(seed=seed, numbers=numbers, purpose="translation"))
    given = {name: value.to(parameter.device) for name, value in drawn.items()}
    return to_uint8(network(pixels, **given))


@dataclass(frozen=True, kw_only=True)
class TranslationSampler:
    """Translations of real pictures by position, with their sources and targets."""

    samples: StoredSamples
    """The pairs, which were not trained on."""
    source: Image
    """The field that is translated."""
    target: Image
    """The field that it is translated to."""
    seed: int = 0

    classes = 0
    picture = "generated"

    @property
    def count(self) -> int:
        """The number of pairs."""
        return self.samples.count

    def describe(self) -> Mapping[str, Any]:
        """Return the seed, and which pictures are translated."""
        return {"seed": self.seed, "labels": "none", "truncation": None, "sources": dict(self.samples.describe())}

    def draw(self, network: nn.Module, positions: range) -> dict[str, Tensor]:
        """Return `source`, `generated` and `target`, uint8 (n, C, H, W) on the host."""
        rows = self.samples.rows(positions)
        source = rows[self.source.name]
        return {
            "source": source,
            "generated": translate(network, source, seed=self.seed, numbers=positions),
            "target": rows[self.target.name],
        }
