"""f-divergences as a discriminator estimates them: output activations, convex conjugates, and where they rest.

Let p be the density of the data and q that of the generator. A convex function f on u > 0 has the divergence
`D_f = E_q[f(p / q)]`, which is the largest value of `E_p[T] - E_q[f*(T)]` over all functions T (Nowozin et al.,
arXiv:1606.00709, eq. 4); it is found at `T = f'(p / q)` (eq. 5). The discriminator's raw output v becomes `T = g_f(v)`,
so that T stays where the conjugate f* is finite (tables 2 and 6 of the paper). Here T and f*(T) are both functions of
v, because f* of a rounded T loses what matters: in `-log(1 - exp(T))` all cancels where the discriminator is sure.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from framework.recipe.checks import check_fields
from framework.utils.ranges import Range


class Divergence(ABC):
    """The base of f-divergences; one of your own is a frozen dataclass with the method `f`.

    All else follows from f where f has a second derivative: v is taken for the logarithm of the density ratio u, hence
    `T = f'(u)` and `f*(T) = u f'(u) - f(u)` with `u = exp(v)`, from autograd in float64. The subtraction loses digits
    where f grows much faster than its conjugate; there, for |v| beyond about 30, closed forms are better. They are
    written as `activation` and `conjugate`, with `undecided` where v is then another number.
    """

    @abstractmethod
    def f(self, ratio: Tensor) -> Tensor:
        """Return the generator function f of density ratios u > 0, of any shape, elementwise."""

    def activation(self, raw: Tensor) -> Tensor:
        """Return `T = g_f(v)` for raw outputs v of any shape; it grows with v."""
        return self._slope(raw.double().exp()).to(raw.dtype)

    def conjugate(self, raw: Tensor) -> Tensor:
        """Return `f*(g_f(v))` for raw outputs v of any shape."""
        ratio = raw.double().exp()
        return (ratio * self._slope(ratio) - self.f(ratio)).to(raw.dtype)

    @property
    def undecided(self) -> float | None:
        """The v with `g_f(v) = f'(1)`, the best answer where p = q; None if any v is as good."""
        return 0.0

    @property
    def largest(self) -> float:
        """The divergence of distributions that do not overlap, `f(0) + lim f(u) / u`; infinity also if unknown."""
        return math.inf

    def _slope(self, ratio: Tensor) -> Tensor:
        """Return f'(u), elementwise, as a differentiable function also where gradients are off."""
        slope: Tensor = torch.func.grad(lambda u: self.f(u).sum())(ratio)
        return slope


Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class _Row(Divergence):
    """A row of the paper's tables: f(u), `g_f(v)` and `f*(g_f(v))`."""

    of_ratio: Elementwise
    of_raw: Elementwise
    conjugate_of_raw: Elementwise
    rests_at: float | None = 0.0
    reaches: float = math.inf

    def f(self, ratio: Tensor) -> Tensor:
        """Return f(u), elementwise."""
        return self.of_ratio(ratio)

    def activation(self, raw: Tensor) -> Tensor:
        """Return `g_f(v)`, elementwise."""
        return self.of_raw(raw)

    def conjugate(self, raw: Tensor) -> Tensor:
        """Return `f*(g_f(v))`, elementwise."""
        return self.conjugate_of_raw(raw)

    @property
    def undecided(self) -> float | None:
        """The v with `g_f(v) = f'(1)`."""
        return self.rests_at

    @property
    def largest(self) -> float:
        """The largest value of the divergence."""
        return self.reaches


def _half_tanh(raw: Tensor) -> Tensor:
    """Return `tanh(v) / 2` with a gradient that does not cancel where it is small."""
    return torch.where(raw >= 0, 0.5 - torch.sigmoid(-2 * raw), torch.sigmoid(2 * raw) - 0.5)


def _conjugate_of_jeffrey(raw: Tensor) -> Tensor:
    """Return `W(e^(1 - v)) + 1 / W(e^(1 - v)) + v - 2`, where W is Lambert's function.

    `y = log W(e^c)` is the root of `y + e^y = c`, with which the conjugate is `e^-y - 1 - y`. Newton's steps begin to
    the right of the root, from where they are monotone (the function is convex), and six suffice in float64. Two more
    carry the gradient: each doubles the number of derivatives that are exact, so second ones are.
    """
    c = 1 - raw

    def step(y: Tensor) -> Tensor:
        return y - (y + y.exp() - c) / (1 + y.exp())

    with torch.no_grad():
        y = torch.where(c < 1, c, c.clamp(min=1).log())
        for _ in range(6):
            y = step(y)
    y = step(step(y))
    return torch.expm1(-y) - y


NAMED: Mapping[str, Divergence] = {
    # |u - 1| / 2 has a corner at 1: where p = q, any T from -1/2 to 1/2 is as good.
    "total_variation": _Row(
        of_ratio=lambda u: (u - 1).abs() / 2,
        of_raw=_half_tanh,
        conjugate_of_raw=_half_tanh,
        rests_at=None,
        reaches=1.0,
    ),
    "kl": _Row(
        of_ratio=lambda u: u * u.log(), of_raw=lambda v: v, conjugate_of_raw=lambda v: (v - 1).exp(), rests_at=1.0
    ),
    "reverse_kl": _Row(of_ratio=lambda u: -u.log(), of_raw=lambda v: -(-v).exp(), conjugate_of_raw=lambda v: v - 1),
    # As in the paper's table; below v = -2 the conjugate over u >= 0 is -1 and this is above it: still a lower bound.
    "pearson": _Row(
        of_ratio=lambda u: (u - 1).square(), of_raw=lambda v: v, conjugate_of_raw=lambda v: v.square() / 4 + v
    ),
    "neyman": _Row(
        of_ratio=lambda u: (1 - u).square() / u,
        of_raw=lambda v: 1 - (-v).exp(),
        conjugate_of_raw=lambda v: 2 - 2 * (-v / 2).exp(),
    ),
    "squared_hellinger": _Row(
        of_ratio=lambda u: (u.sqrt() - 1).square(),
        of_raw=lambda v: 1 - (-v).exp(),
        conjugate_of_raw=lambda v: v.exp() - 1,
        reaches=2.0,
    ),
    "jeffrey": _Row(of_ratio=lambda u: (u - 1) * u.log(), of_raw=lambda v: v, conjugate_of_raw=_conjugate_of_jeffrey),
    "jensen_shannon": _Row(
        of_ratio=lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
        of_raw=lambda v: math.log(2) - functional.softplus(-v),
        conjugate_of_raw=lambda v: functional.softplus(v) - math.log(2),
        reaches=2 * math.log(2),
    ),
    # The game of arXiv:1406.2661: `jensen_shannon` less 2 log 2, so 0 is its largest value.
    "gan": _Row(
        of_ratio=lambda u: u * u.log() - (u + 1) * (u + 1).log(),
        of_raw=lambda v: -functional.softplus(-v),
        conjugate_of_raw=functional.softplus,
        reaches=0.0,
    ),
}
"""The divergences of the paper's tables 2 and 6 that have no parameter, by name."""

DivergenceName = Literal[
    "total_variation",
    "kl",
    "reverse_kl",
    "pearson",
    "neyman",
    "squared_hellinger",
    "jeffrey",
    "jensen_shannon",
    "gan",
]


@dataclass(frozen=True, kw_only=True)
class WeightedJensenShannon(Divergence):
    """The Jensen-Shannon divergence with a weight: `pi KL(p, m) + (1 - pi) KL(q, m)` with `m = pi p + (1 - pi) q`.

    `f(u) = pi u log u - (1 - pi + pi u) log(1 - pi + pi u)` (arXiv:1606.00709, tables 5 and 6). With `pi` = 1/2 it is
    half of `jensen_shannon`, which the paper writes without the factor 1/2.

    Raises:
        FrameworkError: `pi` is not between 0 and 1.
    """

    pi: Annotated[float, Range(above=0, below=1)] = 0.5
    """The weight of the data."""

    def __post_init__(self) -> None:
        check_fields(self)

    def f(self, ratio: Tensor) -> Tensor:
        """Return f(u) of density ratios u of any shape."""
        mixed = 1 - self.pi + self.pi * ratio
        return self.pi * ratio * ratio.log() - mixed * mixed.log()

    def activation(self, raw: Tensor) -> Tensor:
        """Return `T = -pi log pi - log(1 + exp(-v))` for raw outputs v of any shape."""
        return -self.pi * math.log(self.pi) - functional.softplus(-raw)

    def conjugate(self, raw: Tensor) -> Tensor:
        """Return `(1 - pi) log((1 - pi) / (1 - s(v)^(1 / pi)))` for raw outputs v of any shape, s being the sigmoid.

        With `x = -log s(v)` and `k = 1 / pi`, `1 - s(v)^k` is `1 - exp(-k x)`. Where s(v) is near 1 it is written as
        `1 - s(v)`, which is `s(-v)`, times a factor between 1 and k.
        """
        k, x = 1 / self.pi, functional.softplus(-raw)
        below = torch.log1p(-(-k * x.clamp(min=math.log(2))).exp())
        tiny = x.clamp(min=torch.finfo(x.dtype).tiny)
        above = (torch.expm1(-k * tiny) / torch.expm1(-tiny)).log() - functional.softplus(raw)
        return (1 - self.pi) * (math.log(1 - self.pi) - torch.where(raw < 0, below, above))

    @property
    def undecided(self) -> float:
        """The v with T = 0: `-log(pi^-pi - 1)`."""
        return -math.log(math.expm1(-self.pi * math.log(self.pi)))

    @property
    def largest(self) -> float:
        """The entropy of a coin that shows data with the probability `pi`."""
        return -self.pi * math.log(self.pi) - (1 - self.pi) * math.log(1 - self.pi)
