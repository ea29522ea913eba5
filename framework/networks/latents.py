"""What a generator is fed besides conditions: named draws, one code for each sample.

A generator of one latent is called with it; one of several is called with their codes side by side, in the order in
which the game lists them, so its `z_dim` is the sum of the widths. Terms find every draw under its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from framework.networks.draw import Draw
from framework.recipe.checks import check_fields
from framework.utils.errors import RecipeError
from framework.utils.ranges import Range


class Latent(Protocol):
    """A named draw."""

    @property
    def name(self) -> str:
        """The name under which it is drawn, and under which terms find it."""
        ...

    @property
    def width(self) -> int:
        """The length of its code."""
        ...

    def draw(self, draw: Draw) -> Tensor:
        """Return the draws of n samples, (n, width), or (n,) int64 for classes."""
        ...

    def code(self, drawn: Tensor) -> Tensor:
        """Return what the generator is given of them, (n, width)."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """A standard normal vector, the usual latent."""

    width: Annotated[int, Range(least=1)]
    """The length of the vector."""
    name: str = "z"

    def __post_init__(self) -> None:
        check_fields(self)

    def draw(self, draw: Draw) -> Tensor:
        """Return standard normal vectors (n, width)."""
        return draw.normal(self.name, self.width)

    def code(self, drawn: Tensor) -> Tensor:
        """Return the vectors as they are, (n, width)."""
        return drawn


@dataclass(frozen=True)
class Uniform:
    """A vector uniform in [low, high): the latent of DCGAN (arXiv:1511.06434), a continuous code of InfoGAN."""

    width: Annotated[int, Range(least=1)]
    """The length of the vector."""
    name: str = "z"
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.low < self.high:
            raise RecipeError(f"Uniform: low={self.low} must be below high={self.high}")

    def draw(self, draw: Draw) -> Tensor:
        """Return vectors (n, width) uniform in [low, high)."""
        return self.low + (self.high - self.low) * draw.uniform(self.name, self.width)

    def code(self, drawn: Tensor) -> Tensor:
        """Return the vectors as they are, (n, width)."""
        return drawn


@dataclass(frozen=True)
class Categorical:
    """A class, uniform over `classes`: a categorical code of InfoGAN (arXiv:1606.03657), given as one-hot."""

    classes: Annotated[int, Range(least=2)]
    name: str = "code"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def width(self) -> int:
        """The length of its code, one entry for each class."""
        return self.classes

    def draw(self, draw: Draw) -> Tensor:
        """Return classes (n,) int64."""
        return draw.integers(self.name, self.classes)

    def code(self, drawn: Tensor) -> Tensor:
        """Return one-hot vectors (n, classes) float32."""
        return functional.one_hot(drawn, self.classes).to(torch.float32)


def drawn(latents: Sequence[Latent], draw: Draw) -> dict[str, Tensor]:
    """Return the draws of n samples by name."""
    return {latent.name: latent.draw(draw) for latent in latents}


def code_of(latents: Sequence[Latent], draws: Mapping[str, Tensor], *, like: torch.dtype) -> Tensor:
    """Return what a generator is called with, (n, sum of the widths).

    Args:
        latents: in the order of the code.
        draws: what `drawn` returned.
        like: the type of the codes.
    """
    codes = [latent.code(draws[latent.name]).to(like) for latent in latents]
    return codes[0] if len(codes) == 1 else torch.cat(codes, dim=1)


def check_latents(latents: Sequence[Latent], *, z_dim: int) -> None:
    """Refuse latents whose codes are not what the generator takes.

    Raises:
        RecipeError: two have one name, or the widths do not add up to `z_dim`.
    """
    names = [latent.name for latent in latents]
    if len({*names}) < len(names):
        raise RecipeError(f"latents: every latent needs a name of its own, not {', '.join(names)}")
    width = sum(latent.width for latent in latents)
    if width != z_dim:
        told = " + ".join(str(latent.width) for latent in latents)
        raise RecipeError(f"latents: the generator's z_dim is {z_dim}, the latents are {told} = {width} wide")
