from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from framework.runtime import distributions
from framework.runtime.seeding import VERSIONS, Draws, DrawsVersion, derive, seed_torch


def test_draws_depend_on_seed_clock_and_purpose_only() -> None:
    z = Draws(seed=3, images_seen=640).normal("z", 6, 4)
    assert torch.equal(z, Draws(seed=3, images_seen=640).normal("z", 6, 4))
    for other in (Draws(seed=4, images_seen=640), Draws(seed=3, images_seen=641)):
        assert not torch.equal(z, other.normal("z", 6, 4))
    assert not torch.equal(z, Draws(seed=3, images_seen=640).normal("noise", 6, 4))


def test_draws_are_the_same_in_another_process() -> None:
    draw = "Draws(seed=1, images_seen=2).normal('z', 3).tolist(), derive(1, 'a')"
    code = f"from framework.runtime.seeding import *; print(({draw}))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.strip() == f"({Draws(seed=1, images_seen=2).normal('z', 3).tolist()}, {derive(1, 'a')})"


def test_distributions() -> None:
    draws = Draws(seed=0, images_seen=0)
    z, u, k = draws.normal("z", 100_000), draws.uniform("u", 100_000), draws.integers("k", 5, 100_000)
    assert abs(float(z.mean())) < 0.016  # 5 standard errors
    assert abs(float(z.std()) - 1) < 0.0112
    assert float(u.min()) >= 0.0
    assert float(u.max()) < 1.0
    assert k.unique().tolist() == [0, 1, 2, 3, 4]


def test_keys_cannot_be_confused() -> None:
    assert derive(1, 23) != derive(12, 3)
    assert derive("a", "b") != derive("ab")
    seed_torch(1, "x")
    first = torch.rand(2)
    seed_torch(1, "x")
    assert torch.equal(first, torch.rand(2))


def hashed(*numbers: Tensor) -> str:
    return hashlib.sha256(b"".join(n.numpy().tobytes() for n in numbers)).hexdigest()[:16]


@pytest.mark.parametrize(("version", "recorded"), [(1, "19638ec1d9d724ee"), (2, "07479493efbfe3b1")])
def test_the_numbers_of_a_version_never_change(version: DrawsVersion, recorded: str) -> None:
    """Runs go on with them. Those of version 1 are NumPy's, which promises them within a release only (NEP 19)."""
    draws = Draws(seed=3, images_seen=640, version=version)
    assert hashed(draws.normal("z", 6, 5), draws.uniform("u", 6, 4, 2), draws.integers("k", 10, 6)) == recorded


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_are_part_of_the_batch(version: DrawsVersion) -> None:
    draws = Draws(seed=0, images_seen=0, version=version)
    for rows in (slice(0, 2), slice(3, 4), slice(2, None), slice(4, 4)):
        assert torch.equal(draws.normal("z", 6, 5, rows=rows), draws.normal("z", 6, 5)[rows])
        assert torch.equal(draws.uniform("u", 6, rows=rows), draws.uniform("u", 6)[rows])
        assert torch.equal(draws.integers("k", 9, 6, 2, 3, rows=rows), draws.integers("k", 9, 6, 2, 3)[rows])


def test_version_2_computes_the_rows_that_are_asked_for_alone() -> None:
    """Those of a batch of which nothing else would fit into memory."""
    draws = Draws(seed=0, images_seen=0, version=2)
    assert draws.normal("z", 10**12, 4, rows=slice(10**11, 10**11 + 2)).shape == (2, 4)


@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_without_values_have_a_shape(version: DrawsVersion) -> None:
    """Networks are tried on the meta device. Nothing that is made there is kept for devices with values."""
    draws, meta = Draws(seed=0, images_seen=0, version=version), torch.device("meta")
    expected = draws.normal("z", 6, 5)
    distributions._cubics.cache_clear()
    with meta:
        drawn = draws.normal("z", 6, 5, device=meta), draws.integers("k", 3, 6, device=meta)
        assert torch.equal(draws.normal("z", 6, 5), expected)
    assert [(n.device.type, n.shape, n.dtype) for n in drawn] == [
        ("meta", (6, 5), torch.float32),
        ("meta", (6,), torch.int64),
    ]
