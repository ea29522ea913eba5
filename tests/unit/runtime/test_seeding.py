from __future__ import annotations

import subprocess
import sys

import torch

from framework.runtime.seeding import Draws, derive, seed_torch


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
