"""Random numbers of samples by number: sample i has the same ones whoever draws it, alone or among others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.networks.latents import Categorical, Gaussian, Latent, Uniform, code_of, drawn
from framework.runtime.seeding import Draws
from framework.sampling.latents import latents as gaussian_latents
from framework.utils.errors import FrameworkError


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


def walked_codes(
    latents: Sequence[Latent], *, walked: str, seed: int, rows: int, columns: int
) -> tuple[Tensor, list[str]]:
    """Return codes of a grid whose columns go through one code while all else of a row stays, and the columns' titles.

    A class goes through all classes, a number of a uniform code from its lowest to its highest, one of a Gaussian code
    from -2 to 2 (InfoGAN, arXiv:1606.03657, figure 2).

    Args:
        latents: the latents that a recipe names.
        walked: the name of a code; of one with several numbers with the number's place, `style.1`.
        seed: another seed gives other rows.
        rows: the number of rows, which are samples 0, 1, ...
        columns: the number of columns; of a class they are as many as there are classes, whatever is said here.

    Returns:
        Codes (rows * columns, z_dim) float32 row by row, and a title for each column.

    Raises:
        FrameworkError: there is no such code; names those there are.
    """
    latent, place = _code_named(walked, latents)
    if isinstance(latent, Categorical):
        columns = latent.classes
    numbers = [row for row in range(rows) for _ in range(columns)]
    draws = drawn(latents, SampleDraws(seed=seed, numbers=numbers))
    own = draws[latent.name].clone()
    if isinstance(latent, Categorical):
        own[:] = torch.arange(columns).repeat(rows)
        titles = [str(number) for number in range(columns)]
    else:
        low, high = (latent.low, latent.high) if isinstance(latent, Uniform) else (-2.0, 2.0)
        values = torch.linspace(low, high, columns)
        own[:, place] = values.repeat(rows)
        titles = [f"{value:+.2g}" for value in values.tolist()]
    return code_of(latents, {**draws, latent.name: own}, like=torch.float32), titles


def _code_named(text: str, latents: Sequence[Latent]) -> tuple[Latent, int]:
    """Return the code that is meant, and which of its numbers."""
    name, _, place = text.partition(".")
    for latent in latents:
        if latent.name == name and isinstance(latent, Categorical) and not place:
            return latent, 0
        if latent.name == name and isinstance(latent, Uniform | Gaussian):
            number = int(place) if place.isdigit() else 0 if not place and latent.width == 1 else -1
            if 0 <= number < latent.width:
                return latent, number
    known = [
        latent.name if isinstance(latent, Categorical) or latent.width == 1 else f"{latent.name}.0"
        for latent in latents
        if isinstance(latent, Categorical | Uniform | Gaussian)
    ]
    told = f"it has {', '.join(known)}" if known else "its recipe names none"
    raise FrameworkError(f"--code {text}: this generator has no such code; {told}")


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
