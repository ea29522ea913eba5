"""Precision, recall, density and coverage by hand and by brute force from the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framework.evaluation.errors import MissingError
from framework.evaluation.metrics.precision_recall import density_coverage, precision_recall
from tests.helpers.judged import ALONE


def test_points_on_a_line() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [20.0]])  # distances to the nearest: 1, 1, 2, 17
    fake = torch.tensor([[-0.5], [4.9], [100.0], [101.0]])  # inside: of 0; of 3 (and of 20); of none
    found = precision_recall(fake, real, neighbours=1, session=ALONE)
    assert found.precision == 0.5  # -0.5 and 4.9
    # Balls of the generated points: 5.4, 5.4, 1, 1 -> 0, 1 and 3 lie inside, 20 does not.
    assert found.recall == 0.75
    balls = density_coverage(fake, real, neighbours=1, session=ALONE)
    # -0.5 lies in the ball of 0 only; 4.9 in those of 3 and of 20.
    assert balls.density == pytest.approx(3 / 4)
    assert balls.coverage == 0.75  # 0, 3 and 20 have a generated point in their ball


def test_against_brute_force() -> None:
    random = np.random.default_rng(0)
    fake, real = random.standard_normal((130, 5)) * 0.8 + 0.3, random.standard_normal((150, 5))
    near = np.linalg.norm(real[:, None] - real[None], axis=2)
    radii = np.sort(near, axis=1)[:, 5]
    cross = np.linalg.norm(real[:, None] - fake[None], axis=2)
    found = density_coverage(torch.from_numpy(fake), torch.from_numpy(real), neighbours=5, session=ALONE)
    assert found.density == pytest.approx((cross < radii[:, None]).sum() / (5 * 130), rel=1e-12)
    assert found.coverage == pytest.approx((cross.min(1) < radii).mean(), rel=1e-12)
    assert 0.2 < found.coverage < 1


def test_collapse_shows_in_recall_and_coverage_and_not_in_precision() -> None:
    random = np.random.default_rng(2)
    real = torch.from_numpy(random.standard_normal((400, 4)))
    collapsed = torch.from_numpy(random.standard_normal((400, 4)) * 0.05)
    manifolds = precision_recall(collapsed, real, neighbours=3, session=ALONE)
    balls = density_coverage(collapsed, real, neighbours=5, session=ALONE)
    assert manifolds.precision == 1.0
    assert manifolds.recall < 0.05
    assert balls.coverage < 0.2


def test_too_few_images() -> None:
    with pytest.raises(MissingError, match="3 neighbours"):
        precision_recall(torch.randn(3, 2), torch.randn(9, 2), neighbours=3, session=ALONE)
