"""The Frechet distance against closed forms, and streaming against all at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from framework.evaluation.errors import MissingError
from framework.evaluation.metrics.frechet import frechet_distance
from framework.evaluation.moments import Moments


def of(features: torch.Tensor, *, batch: int = 17) -> Moments:
    found = Moments.zeros(features.shape[1])
    for part in features.split(batch):
        found.add(part)
    return found


def corners(dim: int, *, mean: float, std: float) -> torch.Tensor:
    """2 dim points with this mean in every dimension and covariance std^2 I exactly."""
    spread = std * math.sqrt((2 * dim - 1) / 2)
    axes = torch.eye(dim, dtype=torch.float64) * spread
    return torch.cat([axes, -axes]) + mean


def test_gaussians_with_a_closed_form() -> None:
    # |m1 - m2|^2 + dim (s1 - s2)^2 for isotropic Gaussians (Dowson and Landau 1982).
    a, b = corners(6, mean=1.0, std=2.0), corners(6, mean=-0.5, std=0.5)
    assert frechet_distance(of(a), of(b)) == pytest.approx(6 * 1.5**2 + 6 * 1.5**2, rel=1e-12)
    assert frechet_distance(of(a), of(a)) == pytest.approx(0.0, abs=1e-10)
    assert frechet_distance(of(a), of(b)) == pytest.approx(frechet_distance(of(b), of(a)), rel=1e-12)


def test_batches_and_order_do_not_matter() -> None:
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((301, 20)).astype(np.float32)) + 5
    whole, parts, shuffled = of(features, batch=301), of(features, batch=7), of(features.flip(0), batch=50)
    assert parts.count == 301
    expected = np.cov(features.double().numpy(), rowvar=False)
    for moments in (whole, parts, shuffled):
        np.testing.assert_allclose(moments.covariance.numpy(), expected, rtol=0, atol=1e-11)


def test_fewer_images_than_features_leave_no_rounding_behind() -> None:
    """Two orders of the same sums differ by 1e-16; a square root of a zero would make that 1e-8, 300 times."""
    random = np.random.default_rng(1)
    a, b = (torch.from_numpy(random.standard_normal((40, 300)) + shift) for shift in (0.0, 0.2))
    forwards = frechet_distance(of(a, batch=40), of(b, batch=40))
    backwards = frechet_distance(of(a.flip(0), batch=3), of(b.flip(0), batch=3))
    print(f"relative difference between two orders of summation: {abs(forwards / backwards - 1):.1e}")
    assert forwards == pytest.approx(backwards, rel=1e-12)
    assert of(a).factor().shape == (300, 39)


def test_one_image_has_no_covariance() -> None:
    few = of(torch.ones(1, 3))
    with pytest.raises(MissingError, match="at least 2"):
        frechet_distance(few, of(torch.randn(9, 3)))
