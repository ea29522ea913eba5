"""Distances between what was generated and what it should have been."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from framework.networks.blocks.precision import at_least_fp32
from framework.objectives.terms import Term, TermInputs
from framework.recipe.schedules import Ramp
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class L1(Term):
    """The term `weight * E[|a - b|]`, a mean over samples, channels and pixels (pix2pix, arXiv:1611.07004, eq. 3).

    Pictures lie in [-1, 1]; pix2pix has the weight 100.
    """

    weight: float | Ramp = 100.0
    of: tuple[str, str] = ("fake", "real")
    """The names of the two tensors: `real`, `fake`, a field of the data."""

    players: ClassVar[tuple[str, ...]] = ("generator",)

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean absolute difference, a scalar.

        Raises:
            FrameworkError: the turn has no tensor of that name, or the two differ in shape; broadcasting would mix
                samples.
        """
        first, second = (inputs.tensor(name) for name in self.of)
        if first.shape != second.shape:
            raise FrameworkError(
                f"L1: {self.of[0]} has the shape {tuple(first.shape)} and {self.of[1]} {tuple(second.shape)}: they "
                "must be equal"
            )
        return (at_least_fp32(first) - at_least_fp32(second)).abs().mean()
