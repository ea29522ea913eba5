"""Uniform, whole and normal numbers made of words: against plain arithmetic, in any part, and their distributions."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor

from framework.runtime import distributions
from framework.runtime.seeding import Draws, derive
from framework.runtime.splitmix import Stream

CPU = torch.device("cpu")
LARGEST_Z = 5.0
"""Tolerated deviation in standard deviations: with chance 6e-7; seeds are fixed."""
LARGEST_KS = 2.5
"""Tolerated Kolmogorov-Smirnov statistic times the root of the number: with chance 2 exp(-2 * 2.5^2) = 7e-6."""


def words(rows: int, per_row: int, *key: int | str) -> Tensor:
    return Stream.of(derive(*key)).words(range(rows), per_row, device=CPU)


def test_uniform_and_whole_numbers_equal_those_of_plain_python() -> None:
    some = words(100, 3, "words")
    plain = [word % 2**64 for word in some.flatten().tolist()]
    assert distributions.uniform(some).flatten().tolist() == [(word >> 40) / 2**24 for word in plain]
    for high in (1, 2, 3, 10, 1_000, 1 << 62):
        assert distributions.integers(some, high).flatten().tolist() == [(word >> 1) % high for word in plain]
    extremes = torch.tensor([[0, -1, 1 << 62, -(1 << 63)]])
    assert distributions.uniform(extremes).tolist() == [[0.0, 1 - 2.0**-24, 0.25, 0.5]]


def halves(*values: int) -> Tensor:
    """A word (n, 1) of each number of 32 bits, in its lower half."""
    return torch.tensor([[value % 2**32] for value in values])


def test_normal_numbers_are_quantiles() -> None:
    """Within 6e-7: half a unit in the last place of 6.34, 2.4e-7, is lost in the constant and once more in the last sum
    of a cubic; rounding x to 24 bits moves z by 4e-8 at most, and so much a cubic is off."""
    extremes = [0, -1, 1, -2, 2, 2**16, 2**24 - 1, 2**24 + 1, 2**30, 2**30 - 1, -(2**30), 2**31 - 1, -(2**31)]
    random = np.random.default_rng(0).integers(-(2**31), 2**31, 20_000).tolist()
    small = [value >> (value % 31) for value in random]  # every octave of tails
    values = [*extremes, *random, *small]
    ours = distributions.normal(halves(*values), 1).flatten().double()
    exact = [math.copysign(NormalDist().inv_cdf(abs(value + 0.5) / 2**32), value + 0.5) for value in values]
    error = (ours - torch.tensor(exact, dtype=torch.float64)).abs()
    print(f"largest error {error.max():.1e} at {values[int(error.argmax())]}, largest number {ours.max():.2f}")
    assert float(error.max()) < 6e-7
    assert float(ours.max()) == -float(ours.min()) == pytest.approx(NormalDist().inv_cdf(1 - 2.0**-33), abs=6e-7)


def test_normal_numbers_round_as_ieee_754_says() -> None:
    """The same bits come from NumPy's float32, one operation after the other: no product is joined with a sum."""
    some = words(40, 25, "rounding")
    table = torch.stack(distributions._cubics(CPU), 1).numpy()
    x = some.numpy().view(np.int32).astype(np.float32) + np.float32(0.5)
    bits = x.view(np.uint32)
    piece, place = bits >> 19, (bits & np.uint32(2**19 - 1)).astype(np.float32)
    c = table[piece]
    expected = ((c[..., 3] * place + c[..., 2]) * place + c[..., 1]) * place + c[..., 0]
    assert expected.dtype == np.float32
    assert np.array_equal(distributions.normal(some, 50).numpy(), expected)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_two_normal_numbers_come_from_a_word(count: int) -> None:
    some = words(3, distributions.words_of_normals(count), "pairs")
    ours = distributions.normal(some, count)
    assert ours.shape == (3, count)
    assert len(ours.unique()) == 3 * count
    assert torch.equal(ours, distributions.normal(some, 2 * some.shape[1])[:, :count])


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_parts_equal_the_whole_to_the_bit(threads: int) -> None:
    """For every alignment, remainder of vectors and number of threads: 70,000 numbers are split between threads."""
    rows, count, before = 100, 701, torch.get_num_threads()
    draws = Draws(seed=1, images_seen=2, version=2)
    whole = [draws.normal("z", rows, count), draws.uniform("u", rows, count), draws.integers("k", 1_000, rows, count)]
    torch.set_num_threads(threads)
    try:
        for start in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55):
            for size in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 45):
                part = slice(start, start + size)
                assert torch.equal(draws.normal("z", rows, count, rows=part), whole[0][part])
                assert torch.equal(draws.uniform("u", rows, count, rows=part), whole[1][part])
                assert torch.equal(draws.integers("k", 1_000, rows, count, rows=part), whole[2][part])
        again = draws.normal("z", rows, count), draws.uniform("u", rows, count), draws.integers("k", 1_000, rows, count)
        assert all(map(torch.equal, again, whole))
    finally:
        torch.set_num_threads(before)


def fingerprint() -> str:
    """A hash over many numbers of each kind."""
    draws = Draws(seed=1, images_seen=2, version=2)
    numbers = draws.normal("z", 300, 77), draws.uniform("u", 300, 77), draws.integers("k", 1_000, 300, 77)
    return hashlib.sha256(b"".join(n.numpy().tobytes() for n in numbers)).hexdigest()


def test_other_instructions_give_the_same_bits() -> None:
    """Those of the oldest processors, which torch has kernels of its own for; they stand for another kind of device."""
    code = "from tests.unit.runtime.test_distributions import fingerprint; print(fingerprint())"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default", "PYTHONHASHSEED": "5"}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.strip() == fingerprint()


def ks(sample: np.ndarray, distribution: np.ndarray) -> float:
    """The Kolmogorov-Smirnov statistic times the root of the number; `distribution` at the sorted sample."""
    assert (np.diff(sample) >= 0).all()
    n = len(sample)
    above, below = np.arange(1, n + 1) / n - distribution, distribution - np.arange(n) / n
    return math.sqrt(n) * float(max(above.max(), below.max()))


def test_distributions() -> None:
    draws, n = Draws(seed=11, images_seen=0, version=2), 200_000
    u = np.sort(draws.uniform("u", n, 1).double().numpy().ravel())
    z = np.sort(draws.normal("z", n // 50, 50).double().numpy().ravel())
    phi = np.array([NormalDist().cdf(value) for value in z])
    k = draws.integers("k", 10, n).bincount(minlength=10).double()
    chi_square = float(((k - n / 10) ** 2 / (n / 10)).sum())
    print(f"KS uniform {ks(u, u):.2f}, normal {ks(z, phi):.2f}; chi-square of 10 whole numbers {chi_square:.1f}")
    assert ks(u, u) < LARGEST_KS
    assert ks(z, phi) < LARGEST_KS
    cube_root = 1 - 2 / (9 * 9) + LARGEST_Z * math.sqrt(2 / (9 * 9))  # Wilson and Hilferty (1931), 9 degrees of freedom
    assert chi_square < 9 * cube_root**3


def test_normal_tails_are_as_frequent_as_they_should_be() -> None:
    n = 4_000_000
    z = Draws(seed=12, images_seen=0, version=2).normal("z", n // 100, 100).abs()
    for bound in (2.0, 3.0, 4.0, 4.5):
        expected = 2 * n * NormalDist().cdf(-bound)
        seen = int((z > bound).sum())
        print(f"beyond {bound}: {seen}, expected {expected:.1f}")
        assert abs(seen - expected) < LARGEST_Z * math.sqrt(expected)


def test_neighbours_are_not_correlated() -> None:
    """Neighbours in a row (two come from one word), in a column, and of other steps, purposes and seeds."""
    rows, count = 1_000, 200
    z = Draws(seed=13, images_seen=0, version=2).normal("z", rows, count).double()
    pairs = {f"in a row, {d} apart": (z[:, d:], z[:, :-d]) for d in range(1, 9)}
    pairs |= {f"in a column, {d} apart": (z[d:], z[:-d]) for d in range(1, 9)}
    squares = (z**2 - 1) / math.sqrt(2)
    pairs |= {f"squares in a row, {d} apart": (squares[:, d:], squares[:, :-d]) for d in (1, 2)}
    others = {
        "the next step": Draws(seed=13, images_seen=64, version=2).normal("z", rows, count),
        "the next seed": Draws(seed=14, images_seen=0, version=2).normal("z", rows, count),
        "another purpose": Draws(seed=13, images_seen=0, version=2).normal("mix/z", rows, count),
    }
    pairs |= {name: (z, other.double()) for name, other in others.items()}
    for name, (a, b) in pairs.items():
        correlation = float((a * b).mean()) * math.sqrt(a.numel())
        print(f"{name}: {correlation:+.2f}")
        assert abs(correlation) < LARGEST_Z, name
