"""Points along curves: where they lie without noise, how noise and scale act, and that positions decide."""

from __future__ import annotations

import numpy as np
import pytest

from framework.data.computed import ComputedStream, GridOfGaussians, RingOfGaussians
from framework.data.curves import SwissRoll, TwoMoons
from framework.utils.errors import FrameworkError

COUNT = 40_000


def test_the_roll_is_a_spiral_of_one_and_a_half_turns() -> None:
    points = SwissRoll(noise=0, divisor=1).rows(np.arange(COUNT), seed=3)["point"].astype(np.float64)
    turn = np.hypot(points[:, 0], points[:, 1])  # the radius is the angle
    assert np.allclose(points, turn[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1), atol=1e-4)
    share = (turn / np.pi - 1.5) / 3
    assert (share.min() > -1e-6, share.max() < 1 + 1e-6) == (True, True)
    # Uniform in the angle: the largest distance from the diagonal, 1.95 / sqrt(n) at one in a thousand (Kolmogorov).
    assert np.abs(np.sort(share) - np.arange(COUNT) / COUNT).max() < 1.95 / COUNT**0.5


@pytest.mark.parametrize("source", [SwissRoll(noise=0.25), TwoMoons(noise=0.05, labelled=True)], ids=["roll", "moons"])
def test_noise_is_normal_and_independent_of_the_place(source: SwissRoll | TwoMoons) -> None:
    clean = type(source)(noise=0).rows(np.arange(COUNT), seed=1)["point"]
    scale = source.noise / getattr(source, "divisor", 1)
    noise = (source.rows(np.arange(COUNT), seed=1)["point"] - clean) / scale
    assert np.abs(noise.mean(0)).max() < 4.5 / COUNT**0.5, "4.5 standard deviations of a mean"
    assert np.abs(noise.std(0) - 1).max() < 4.5 / (2 * COUNT) ** 0.5
    assert np.abs((noise[:, :1] * np.concatenate([clean, noise[:, 1:]], 1)).mean(0)).max() < 5.5 / COUNT**0.5


def test_the_roll_of_wgan_gp_has_coordinates_about_as_large_as_one() -> None:
    points = SwissRoll().rows(np.arange(COUNT), seed=0)["point"]
    assert points.dtype == np.float32
    assert 0.8 < points.std() < 1.2
    # 4.5 pi / 7.5, and the noise of 0.25 / 7.5, of which five standard deviations are a twentieth of a millionth.
    assert 1.8 < np.abs(points).max() < 4.5 * np.pi / 7.5 + 5 * 0.25 / 7.5


def test_two_moons_are_half_circles() -> None:
    points, moons = TwoMoons(noise=0, labelled=True).rows(np.arange(COUNT), seed=2).values()
    centres = np.array([[0.0, 0.0], [1.0, 0.5]])[moons]
    apart = points - centres
    assert np.allclose(np.hypot(*apart.T), 1, atol=1e-6)
    assert (apart[moons == 0, 1] >= 0).all()
    assert (apart[moons == 1, 1] <= 0).all()
    assert abs(moons.mean() - 0.5) < 4.5 * 0.5 / COUNT**0.5
    assert moons.dtype == np.int64


@pytest.mark.parametrize("source", [SwissRoll(), TwoMoons(labelled=True)], ids=["roll", "moons"])
def test_a_point_depends_on_its_position_and_the_seed(source: SwissRoll | TwoMoons) -> None:
    whole = source.rows(np.arange(30), seed=5)
    part = source.rows(np.array([7, 29, 0]), seed=5)
    assert all((part[name] == values[[7, 29, 0]]).all() for name, values in whole.items())
    assert (source.rows(np.arange(30), seed=6)["point"] != whole["point"]).all()
    assert list(whole) == [one.name for one in source.fields]
    with ComputedStream(source, seed=5).batches(6, batch_size=12, rank=1, world=2) as batches:
        assert (next(batches).fields["point"].numpy() == whole["point"][12:18]).all()


def test_numbers_out_of_range_are_refused() -> None:
    for wrong in (lambda: SwissRoll(noise=-1), lambda: SwissRoll(divisor=0), lambda: TwoMoons(noise=float("nan"))):
        with pytest.raises(FrameworkError, match=r"noise|divisor"):
            wrong()


def test_ring_and_grid_in_the_scale_of_wgan_gp() -> None:
    """The numbers in their docstrings: centres over 1.414 and 2.828, as the program of arXiv:1704.00028 has them."""
    ring, grid = (
        RingOfGaussians(radius=2 / 1.414, std=0.02 / 1.414),
        GridOfGaussians(spacing=2 / 2.828, std=0.05 / 2.828),
    )
    assert np.allclose(np.hypot(*ring.means().T), 1.41443, atol=1e-5)
    assert np.allclose(np.unique(grid.means()[:, 0]), np.array([-4, -2, 0, 2, 4]) / 2.828)
