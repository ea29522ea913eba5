"""Counter-based random bits: SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195), on any device.

The i-th word of a stream is a hash of `seed + (i + 1) * gamma`, where both numbers belong to the stream. So any
part of it is computed alone, and only where it is used. Int64 arithmetic wraps around on every device, hence the bits
are equal everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_FIRST_FACTOR, _SECOND_FACTOR, _ALTERNATING = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xAAAAAAAAAAAAAAAA
_WORD = (1 << 64) - 1
_FEWEST_CHANGES = 24
"""The fewest places at which two neighbouring bits of gamma differ, as in the paper's `mixGamma`."""


def signed(value: int) -> int:
    """Return an unsigned 64-bit number as the int64 of the same bits."""
    return value - (1 << 64) if value >> 63 else value


def shifted(x: Tensor, bits: int) -> Tensor:
    """Shift int64 numbers to the right and fill with zeros; torch's own shift keeps the sign."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """Hash each int64 number; this is SplitMix64's output function, a bijection of 64 bits."""
    x = shifted(x, 30).bitwise_xor_(x).mul_(signed(_FIRST_FACTOR))
    x = shifted(x, 27).bitwise_xor_(x).mul_(signed(_SECOND_FACTOR))
    return shifted(x, 31).bitwise_xor_(x)


@dataclass(frozen=True)
class Stream:
    """One of 2^127 streams of random words, each with its own start and its own step.

    Two streams with the same gamma are parts of one sequence and could overlap; drawn gammas make that as improbable
    as two equal keys of 127 bits.
    """

    seed: int
    """The start, 64 bits."""
    gamma: int
    """The step, 64 bits and odd."""

    @classmethod
    def of(cls, key: int) -> Stream:
        """Return the stream of a key of 128 bits, which should itself be a hash."""
        gamma = (key >> 64) | 1
        if (gamma ^ (gamma >> 1)).bit_count() < _FEWEST_CHANGES:
            gamma ^= _ALTERNATING
        return cls(key & _WORD, gamma)

    def words(self, rows: range, per_row: int, *, device: torch.device) -> Tensor:
        """Return the random words of some rows of a table with `per_row` words in each, (n, per_row) int64.

        Args:
            rows: consecutive rows; the words of a row do not depend on which others are asked for.
            per_row: number of words in a row.
            device: where to compute them.
        """
        counter = torch.arange(rows.start * per_row + 1, rows.stop * per_row + 1, dtype=torch.int64, device=device)
        return mix(counter.mul_(signed(self.gamma)).add_(signed(self.seed))).view(len(rows), per_row)
