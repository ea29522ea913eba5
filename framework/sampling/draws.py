"""Random numbers of samples by number: sample i has the same ones whoever draws it, alone or among others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.networks.latents import Latent, code_of, drawn
from framework.runtime.seeding import Draws
from framework.sampling.latents import latents as gaussian_latents


@dataclass(frozen=True, kw_only=True)
class SampleDraws:
    """The random numbers of some samples (the protocol `framework.networks.draw.Draw`), on the CPU."""

    seed: int
    numbers: Sequence[int]
    """The numbers of the n samples."""
    purpose: str = "samples"
    """Another purpose gives other numbers for the same seed."""

    def normal(self, what: str, *shape: int) -> Tensor:
        """Return standard normal values (n, *shape), float32."""
        return torch.cat([draws.normal(f"{self.purpose}/{what}", 1, *shape) for draws in self._by_number()])

    def uniform(self, what: str, *shape: int) -> Tensor:
        """Return uniform values in [0, 1), (n, *shape), float32."""
        return torch.cat([draws.uniform(f"{self.purpose}/{what}", 1, *shape) for draws in self._by_number()])

    def integers(self, what: str, high: int, *shape: int) -> Tensor:
        """Return uniform values in [0, high), (n, *shape), int64."""
        return torch.cat([draws.integers(f"{self.purpose}/{what}", high, 1, *shape) for draws in self._by_number()])

    def _by_number(self) -> list[Draws]:
        return [Draws(seed=self.seed, images_seen=number) for number in self.numbers]


def sample_codes(latents: Sequence[Latent], *, seed: int, numbers: Sequence[int], purpose: str = "samples") -> Tensor:
    """Return what a generator of named latents is called with, (n, z_dim) float32 on the CPU."""
    if not numbers:
        return torch.empty(0, sum(latent.width for latent in latents))
    draw = SampleDraws(seed=seed, numbers=numbers, purpose=purpose)
    return code_of(latents, drawn(latents, draw), like=torch.float32)


def fixed_codes(
    latents: Sequence[Latent],
    *,
    seed: int,
    count: int,
    z_dim: int,
    truncation: float | None = None,
    purpose: str = "samples",
) -> Tensor:
    """Return what a generator is called with for samples 0 ... `count` - 1, (count, z_dim) float32 on the CPU.

    Args:
        latents: the latents that a recipe names; empty for one Gaussian vector.
        seed: another seed gives other samples.
        count: the number of samples.
        z_dim: the size of the Gaussian vector.
        truncation: of the Gaussian vector, see `framework.sampling.latents.latents`; named latents have none.
        purpose: another purpose gives other numbers for the same seed.

    Raises:
        FrameworkError: the truncation is out of range.
    """
    if latents:
        return sample_codes(latents, seed=seed, numbers=range(count), purpose=purpose)
    return gaussian_latents(seed=seed, count=count, z_dim=z_dim, truncation=truncation, purpose=purpose)
