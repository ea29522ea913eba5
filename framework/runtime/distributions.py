"""Random words (int64) turned into uniform numbers, whole numbers and normal numbers.

Everything is made of operations that IEEE 754 or the integers define to the last bit, one operation a kernel, so that
no compiler joins a product and a sum. Therefore results depend neither on the device, nor on threads, nor on where
a number lies in its tensor. That cannot be said of log, cos or erfinv: which code computes them is a library's choice.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache
from itertools import pairwise
from statistics import NormalDist

import torch
from torch import Tensor

from framework.runtime.splitmix import shifted

_FLOAT_BIAS, _MANTISSA = 127, 23
"""The bias of the exponent and the bits of the mantissa of IEEE 754's float32."""
_PIECE_BITS = 4
"""An octave of probabilities is cut into 2^4 pieces: the error of the cubics, 4e-8, is then below rounding."""
_SHIFT = _MANTISSA - _PIECE_BITS
_OCTAVES = range(-1, 31)
"""The powers of 2 between 1/2 and 2^31, which are the halves of int32 numbers that may come."""
_DIGITS = 30
_PI = Decimal("3.14159265358979323846264338327950")


def uniform(words: Tensor) -> Tensor:
    """Return a uniform number in [0, 1) for each word: float32, a multiple of 2^-24."""
    return shifted(words, 40).float().mul_(2.0**-24)


def integers(words: Tensor, high: int) -> Tensor:
    """Return a whole number in [0, high) for each word, int64.

    The chance of a number differs from 1 / high by less than 2^-63.
    """
    return shifted(words, 1).remainder_(high)


def words_of_normals(count: int) -> int:
    """Return the number of words of which `normal` makes `count` numbers."""
    return (count + 1) // 2


def normal(words: Tensor, count: int) -> Tensor:
    """Return standard normal numbers (n, count) float32 from words (n, words_of_normals(count)).

    Each half of a word is a number x of 32 bits. The result has the sign of x + 1/2, and is exceeded by a normal number
    with probability |x + 1/2| / 2^32: the inverse of the distribution function, as cubics by pieces, within 6e-7 of
    it. The largest results are +-6.34, with chance 2^-32 each.
    """
    # All machines that torch is built for keep the lower half of a word first.
    halves = words.contiguous().view(torch.int32)[:, :count].float().add_(0.5)
    bits = halves.view(torch.int32)
    # The first bits of a float, sign and exponent and the first of the mantissa, name the piece; the rest is the place.
    piece = (bits >> _SHIFT).bitwise_and_((1 << (32 - _SHIFT)) - 1)
    place = (bits & ((1 << _SHIFT) - 1)).float()
    terms = [column.index_select(0, piece.flatten()).view_as(place) for column in _cubics(words.device)]
    values = terms.pop()
    while terms:
        values.mul_(place).add_(terms.pop())
    return values


@cache
def _cubics(device: torch.device) -> tuple[Tensor, ...]:
    """Return the four coefficients of the cubics from the constant on, each (pieces,) float32."""
    rows = _upper_cubics()
    lower = [tuple(-coefficient for coefficient in row) for row in rows]  # the first bit of a float is its sign
    table = torch.tensor(rows + lower, dtype=torch.float32, device="cpu")
    return table.T.contiguous().to(device).unbind()


@cache
def _upper_cubics() -> list[tuple[float, ...]]:
    """Return the cubics of positive numbers; pieces that do not come up are zero.

    Each has the value and the slope of the inverse normal distribution function at both ends of its piece (Hermite).
    Decimal numbers make the table the same on every machine, whatever its logarithm.
    """
    rows: list[tuple[float, ...]] = [(0.0,) * 4] * (1 << (31 - _SHIFT))
    pieces = 1 << _PIECE_BITS
    with localcontext(prec=_DIGITS):
        steps = [Decimal(2) ** (-_SHIFT * power) for power in range(4)]  # the place is counted in the last bit
        for octave in _OCTAVES:
            width = Decimal(2) ** (octave - _PIECE_BITS)
            ends = [_quantile_and_slope((pieces + piece) * width) for piece in range(pieces + 1)]
            for piece, ((first, slope), (last, last_slope)) in enumerate(pairwise(ends)):
                rise, begin, end = last - first, slope * width, last_slope * width
                cubic = (first, begin, 3 * rise - 2 * begin - end, begin + end - 2 * rise)
                row = ((octave + _FLOAT_BIAS) << _PIECE_BITS) | piece
                rows[row] = tuple(float(term * step) for term, step in zip(cubic, steps, strict=True))
    return rows


def _quantile_and_slope(half: Decimal) -> tuple[Decimal, Decimal]:
    """Return z with 1 - Phi(z) = half / 2^32, and dz / d half.

    One of Newton's steps leads from a float's 16 digits to twice as many. Phi is its series
    1/2 + phi(z) (z + z^3 / 3 + z^5 / (3 * 5) + ...), where phi is its derivative.
    """
    tail = half / 2**32
    z = Decimal(-NormalDist().inv_cdf(float(tail)))
    term = series = z
    odd = 1
    while abs(term) > Decimal(10) ** -_DIGITS:
        odd += 2
        term *= z * z / odd
        series += term
    z += (Decimal("0.5") - _density(z) * series - tail) / _density(z)
    return z, -1 / (_density(z) * 2**32)


def _density(z: Decimal) -> Decimal:
    """Return phi(z) of the standard normal distribution."""
    return (-z * z / 2).exp() / (2 * _PI).sqrt()
