"""The hash of counters against SplitMix64 in plain Python, its published numbers, and tests of its statistics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from framework.runtime.seeding import derive
from framework.runtime.splitmix import Stream, signed

CPU = torch.device("cpu")
GOLDEN = 0x9E3779B97F4A7C15
LARGEST_Z = 5.0
"""Tolerated deviation in standard deviations: with chance 6e-7, and about 2,000 are looked at; seeds are fixed."""


def reference(seed: int, gamma: int, index: int) -> int:
    """The word after `index` others, as the paper has it, in whole numbers."""
    z = (seed + (index + 1) * gamma) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def unsigned(words: Tensor) -> list[int]:
    return [word % 2**64 for word in words.flatten().tolist()]


def stream(*key: int | str) -> Stream:
    return Stream.of(derive(*key))


def test_published_numbers_come_out() -> None:
    """Those of seed 1234567 that implementations of SplitMix64 are checked with."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert unsigned(Stream(1234567, GOLDEN).words(range(5), 1, device=CPU)) == published


@pytest.mark.parametrize("rows", [range(3), range(5, 9), range(1_000_000, 1_000_002), range(4, 4)], ids=str)
@pytest.mark.parametrize("per_row", [1, 7])
def test_words_equal_those_of_plain_python(rows: range, per_row: int) -> None:
    for key in range(20):
        ours = stream(key)
        words = ours.words(rows, per_row, device=CPU)
        assert words.shape == (len(rows), per_row)
        places = range(rows.start * per_row, rows.stop * per_row)
        assert unsigned(words) == [reference(ours.seed, ours.gamma, place) for place in places]


def test_every_step_is_odd_and_has_enough_changes_of_bits() -> None:
    steps = [stream(key).gamma for key in range(300)] + [
        Stream.of(high << 64).gamma for high in (0, 1, 2**63, 2**64 - 1)
    ]
    for gamma in steps:
        assert gamma % 2 == 1
        assert gamma < 2**64
        assert (gamma ^ (gamma >> 1)).bit_count() >= 24


def bits(words: Tensor) -> Tensor:
    """Bits (n, 64) of words (n,), as numbers 0 and 1."""
    return (words.flatten()[:, None] >> torch.arange(64)) & 1


def test_bits_are_balanced_and_independent() -> None:
    """Of 2^16 words: the mean of each bit, and the correlation of each pair of bits, are those of fair coins."""
    n = 2**16
    coins = 2.0 * bits(stream(1).words(range(n), 1, device=CPU)).double() - 1
    means = coins.mean(0) * math.sqrt(n)
    pairs = (coins.T @ coins / math.sqrt(n))[*torch.triu_indices(64, 64, offset=1)]
    print(f"largest deviations: means {means.abs().max():.2f}, pairs {pairs.abs().max():.2f} standard deviations")
    assert float(means.abs().max()) < LARGEST_Z
    assert float(pairs.abs().max()) < LARGEST_Z


@pytest.mark.parametrize(
    "other",
    [
        ((1, 0, "z"), (1, 0, "y")),
        ((1, 0, "z"), (2, 0, "z")),
        ((1, 0, "z"), (1, 64, "z")),
        ((1, 0, "z"), (1, 0, "z/picked")),
    ],
    ids=str,
)
def test_streams_of_neighbouring_keys_have_nothing_in_common(other: tuple[tuple[int | str, ...], ...]) -> None:
    """Words of equal places, and of places up to 8 apart, differ in half of their bits."""
    n = 2**14
    first, second = (stream(*key).words(range(n), 1, device=CPU).flatten() for key in other)
    for apart in range(-8, 9):
        different = bits(first[8:-8] ^ second.roll(apart)[8:-8]).double()
        z = (different.mean() - 0.5) * 2 * math.sqrt(different.numel())
        assert abs(float(z)) < LARGEST_Z, apart


def test_words_of_one_stream_have_nothing_in_common() -> None:
    n = 2**14
    words = stream(3).words(range(n), 1, device=CPU).flatten()
    assert len(words.unique()) == n
    for apart in [*range(1, 65), 512, 4_096]:
        different = bits(words[apart:] ^ words[:-apart]).double()
        z = (different.mean() - 0.5) * 2 * math.sqrt(different.numel())
        assert abs(float(z)) < LARGEST_Z, apart


def test_signed_keeps_the_bits() -> None:
    for value in (0, 1, 2**63 - 1, 2**63, 2**64 - 1):
        assert signed(value) % 2**64 == value
        torch.tensor(signed(value), dtype=torch.int64)
