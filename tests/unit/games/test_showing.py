"""What games show of points: real ones behind generated ones, on axes that samples do not move."""

from __future__ import annotations

import torch

from framework.games.showing import points_plot

CORNERS = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, -1.0]])


def test_the_real_points_fix_a_square_around_themselves() -> None:
    early, late = (points_plot(torch.full((9, 2), far), label="generated", real=CORNERS) for far in (1.0, 50.0))
    assert early.x_range == late.x_range == (-3.0, 3.0)  # the extent 4, and a quarter of it on each side
    assert early.y_range == late.y_range == (-3.0, 3.0)
    assert early.description == "plot: real (3 points); generated (9 points)"
    assert late.description == "plot: real (3 points); generated (9 points, 9 outside the axes)"
    assert early.layers[0].mark == "halo"


def test_one_real_point_or_none_still_makes_a_plot() -> None:
    one = points_plot(CORNERS, label="generated", real=torch.tensor([[5.0, 6.0]]))
    assert (one.x_range, one.y_range) == ((4.0, 6.0), (5.0, 7.0))
    for none in (None, torch.empty(0, 2)):
        plot = points_plot(CORNERS, label="generated", real=none, title="a title")
        assert plot.x_range is None
        assert plot.description == "a title: generated (3 points)"
