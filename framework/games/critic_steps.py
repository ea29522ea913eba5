"""How often a critic is trained per generator turn, where that changes during a run.

A run resumes from its clock alone. So the number of critic turns is a function of the number of generator turns, their
sum has a closed form, and the sum can be inverted: from the clock follows the step, and from the step the clock.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated

from framework.recipe.checks import check_fields
from framework.utils.ranges import Range


@dataclass(frozen=True, kw_only=True)
class CriticSteps:
    """The numbers of WGAN's program: more critic turns at the beginning of a run, and now and then.

    The defaults are those of the authors' program and of its README; the paper (arXiv:1701.07875, algorithm 1) has 5
    throughout. Generator turns are counted from 0.

    Raises:
        RecipeError: a field of another type.
        FrameworkError: a number that is out of range.
    """

    usual: Annotated[int, Range(least=1)] = 5
    """The number of critic turns before most generator turns."""
    many: Annotated[int, Range(least=1)] = 100
    """The number of critic turns before the others."""
    first: Annotated[int, Range(least=0)] = 25
    """The number of generator turns at the beginning that have many."""
    every: Annotated[int, Range(least=0)] = 500
    """Every so many generator turns one has many; 0: none."""

    def __post_init__(self) -> None:
        check_fields(self)

    def at(self, step: int) -> int:
        """Return the number of critic turns in a step, counted from 0."""
        return self.turns_before(step + 1) - self.turns_before(step)

    def turns_before(self, step: int) -> int:
        """Return the number of critic turns in all steps before this one."""
        long_steps = min(step, self.first)
        if self.every:
            begin, end = min(step, self.first), step
            long_steps += -(-end // self.every) + (-begin // self.every)  # multiples from begin to before end
        return self.usual * step + (self.many - self.usual) * long_steps

    def step_of(self, turns: int) -> int:
        """Return the step that the next critic turn belongs to, after so many critic turns."""
        return bisect_right(range(turns + 2), turns, key=self.turns_before) - 1
