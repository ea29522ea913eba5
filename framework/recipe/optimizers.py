"""The optimisers of a recipe's players: the interface, and Adam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Protocol

import torch
from torch import nn

from framework.recipe.checks import check_fields
from framework.recipe.schedules import Ramp, values_of
from framework.utils.errors import RecipeError
from framework.utils.ranges import Range


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RecipeError(message)


class Optimizer(Protocol):
    """An optimiser in a recipe: a description, from which each engine builds its own."""

    moments: ClassVar[tuple[str, ...]]
    """Names of the optimiser's per-parameter state, in checkpoints and in `torch.optim`."""

    @property
    def lr(self) -> float:
        """The learning rate, before the player's schedule."""
        ...

    def betas_at(self, images_seen: int) -> tuple[float, float]:
        """Return both betas after `images_seen` images."""
        ...

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """Build torch's optimiser over `parameters`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma & Ba, arXiv:1412.6980). GANs commonly use `betas=(0.0, 0.9)`.

    Raises:
        RecipeError: a field of another type, or betas outside [0, 1).
        FrameworkError: a learning rate or an eps out of range.
    """

    lr: Annotated[float, Range(above=0)]
    """Learning rate, before the player's schedule."""
    betas: tuple[float, float] = (0.0, 0.9)
    eps: Annotated[float, Range(least=0)] = 1e-8
    beta2: Ramp | None = None
    """Second beta as a function of the clock (arXiv:2501.05441); None: it stays `betas[1]`."""

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    """Names of the optimiser's per-parameter state, in checkpoints and in `torch.optim`."""

    def __post_init__(self) -> None:
        check_fields(self)
        betas = (*self.betas, *(values_of(self.beta2) if self.beta2 else ()))
        _require(all(0.0 <= b < 1.0 for b in betas), f"Adam: betas={betas} must lie in [0, 1)")

    def lazy(self, *, every: int) -> Adam:
        """Return this Adam, corrected for one extra step with the lazy penalties after every `every` steps.

        With c = every / (every + 1) they are lr * c and betas ** c, so that the optimiser forgets as fast per image as
        without the extra steps (StyleGAN2, arXiv:1912.04958, appendix B). Use it with `Alternating(lazy_steps=True)`.
        """
        share = every / (every + 1)
        return replace(self, lr=self.lr * share, betas=(self.betas[0] ** share, self.betas[1] ** share))

    def betas_at(self, images_seen: int) -> tuple[float, float]:
        """Return both betas after `images_seen` images."""
        return float(self.betas[0]), self.betas[1] if self.beta2 is None else self.beta2.at(images_seen)

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """Build torch's optimiser over `parameters`."""
        betas = (float(self.betas[0]), float(self.betas[1]))
        return torch.optim.Adam(parameters, lr=self.lr, betas=betas, eps=self.eps)
