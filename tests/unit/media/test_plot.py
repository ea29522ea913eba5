"""Plots: what is drawn where, the same bytes everywhere, and no data or name that stops them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from framework.media import Line, Plot, Scatter, Surface
from framework.media.plot import MOST_POINTS
from framework.utils.errors import FrameworkError

UNIT = (0.0, 1.0)
BLUE, ORANGE = (0x25, 0x63, 0xA8), (0xC2, 0x57, 0x1A)


def places(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.intp]:
    """Rows and columns of the pixels near a colour, which marks have at 65 percent on white."""
    wanted = 255 - (255 - np.array(colour)) * 0.65
    return np.argwhere(np.abs(pixels.astype(int) - wanted).max(axis=2) < 12)


def test_points_stand_where_their_numbers_say() -> None:
    def place(x: float, y: float) -> tuple[float, float]:
        row, column = places(Plot([Scatter([[x, y]])], x_range=UNIT, y_range=UNIT).pixels(), BLUE).mean(axis=0)
        return row, column

    row, column = place(0.25, 0.25)
    right_row, right_column = place(0.75, 0.25)
    high_row, high_column = place(0.25, 0.75)
    assert (right_row, high_column) == (pytest.approx(row, abs=0.6), pytest.approx(column, abs=0.6))
    assert right_column > column + 200
    assert high_row < row - 150, "y grows upwards"


def test_a_surface_has_its_first_row_at_the_bottom() -> None:
    low_left = Surface([[1.0, 0.0], [0.0, 0.0]], x=UNIT, y=UNIT, label="D")
    grey = Plot([low_left], x_range=UNIT, y_range=UNIT).pixels().mean(axis=2)
    height, width = grey.shape
    quadrants = {
        (up, right): grey[height // 4 if up else height * 5 // 8, width // 4 if not right else width * 5 // 8]
        for up in (True, False)
        for right in (True, False)
    }
    assert min(quadrants, key=quadrants.__getitem__) == (False, False)
    assert quadrants[False, False] < 160 < 240 < min(value for at, value in quadrants.items() if at != (False, False))


def test_points_lie_above_a_surface_whatever_the_order() -> None:
    surface, points = Surface(np.zeros((2, 2)), x=UNIT, y=UNIT), Scatter([[0.5, 0.5]])
    assert Plot([surface, points]).encode() == Plot([points, surface]).encode()
    assert Plot([surface]).encode() != Plot([surface, points]).encode()


CODE = """
import hashlib, sys
import numpy as np
from framework.media import Line, Plot, Scatter, Surface
from tests.unit.media.test_plot import example
print(hashlib.sha256(example().encode()).hexdigest())
"""


def example() -> Plot:
    random = np.random.default_rng(3)
    return Plot(
        [
            Surface(random.normal(size=(5, 7)), x=(-2, 2), y=(-1, 1), label="D(x)"),
            Scatter(random.normal(size=(50, 2)), label="real"),
            Line([-1, 0, 1], [0.5, np.nan, 0.25], label="boundary"),
        ],
        title="A ring",
        x_label="x",
        y_label="y",
    )


def test_the_same_bytes_on_machines_with_other_settings(tmp_path: Path) -> None:
    """Settings of the user's own, and another backend: neither changes a bit."""
    settings = "font.size: 20\naxes.xmargin: 0.3\naxes.labelweight: bold\naxes.facecolor: black\nsavefig.dpi: 31\n"
    (tmp_path / "matplotlibrc").write_text(settings)
    changed = os.environ | {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "svg"}
    told = subprocess.run([sys.executable, "-c", CODE], env=changed, capture_output=True, text=True, check=True)
    here = example()
    assert here.encode() == here.encode()
    assert told.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def test_drawing_leaves_the_users_settings_alone() -> None:
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 7.5}):
        example().encode()
        assert mpl.rcParams["lines.linewidth"] == 7.5


def test_what_is_not_finite_is_left_out_and_told() -> None:
    points = [[0.2, 0.2], [np.nan, 0.5], [np.inf, 0.5], [0.8, 0.8]]
    whole = Plot([Scatter([points[0], points[3]])])
    assert Plot([Scatter(points)]).encode() == whole.encode()
    assert Plot([Scatter(points)]).description == "plot: points (4 points, 2 of them not finite)"
    broken = Line([0.0, 1.0, 2.0], [1.0, np.inf, 3.0], label="loss")
    assert Plot([broken], x_label="images seen", y_label="value").description == (
        "value over images seen: loss (3 points, ending at 3)"
    )
    assert Plot([broken]).pixels().shape == (576, 768, 3)
    nothing = Plot([Surface(np.full((2, 2), np.nan), x=UNIT, y=UNIT), Scatter(np.empty((0, 2)))])
    assert nothing.description == "plot: surface (no finite value); points (0 points)"
    assert nothing.pixels().shape == (576, 768, 3)


def test_no_name_is_taken_for_a_formula_or_hidden() -> None:
    odd = Plot([Line([0, 1], [0, 1], label="_private")], title="$x^", x_label="a_b$ $", y_label="\\frac{")
    without = Plot([Line([0, 1], [0, 1])], title="$x^", x_label="a_b$ $", y_label="\\frac{")
    assert odd.encode() != without.encode(), "the name is in the legend"


def test_nine_lines_do_not_look_alike() -> None:
    """The ninth has the first one's colour, and other dashes."""

    def drawn(number: int) -> bytes:
        hidden = [Line([], []) for _ in range(number)]
        return Plot([*hidden, Line([0, 1], [0, 1])]).encode()

    assert len({drawn(number) for number in (0, 1, 8, 9)}) == 4


def test_marks_take_the_colours_in_turn() -> None:
    pixels = Plot([Scatter([[0.0, 0.0]]), Scatter([[1.0, 1.0]])]).pixels()
    assert len(places(pixels, BLUE)) > 10
    assert len(places(pixels, ORANGE)) > 10


def test_halos_stay_visible_around_the_points_above_them() -> None:
    """Grey discs behind, whatever their place among the layers; they take no colour of the others."""
    here, above_the_legend = [[0.5, 0.5]], slice(0, 400)

    def drawn(*layers: Scatter) -> NDArray[np.uint8]:
        return Plot(layers, x_range=UNIT, y_range=UNIT).pixels()[above_the_legend]

    behind, points = Scatter(here, label="real", mark="halo"), Scatter(here, label="generated")
    both, marks, halo = drawn(behind, points), places(drawn(points), BLUE), (0xC6, 0xC1, 0xB4)
    assert (both == drawn(points, behind)).all()
    grey = np.argwhere((both == halo).all(axis=2))
    assert len(grey) > len(marks) > 10
    assert np.allclose(grey.mean(axis=0), marks.mean(axis=0), atol=0.5)
    # Blue over grey: 65 percent of the one, 35 of the other.
    row, column = marks.mean(axis=0).round().astype(int)
    assert np.allclose(both[row, column], 0.65 * np.array(BLUE) + 0.35 * np.array(halo), atol=2)


def test_points_beyond_the_axes_are_counted_in_the_legend_and_the_description() -> None:
    points = np.array([[0.5, 0.5], [1.5, 0.5], [0.5, -0.1], [np.nan, 9.0], [1.0, 1.0]])
    plot = Plot([Scatter(points, label="generated")], x_range=UNIT, y_range=UNIT)
    assert plot.description == "plot: generated (5 points, 1 of them not finite, 2 outside the axes)"
    within = Plot([Scatter(points[[0, 3, 4]], label="generated")], x_range=UNIT, y_range=UNIT)
    assert within.description == "plot: generated (3 points, 1 of them not finite)"
    assert Plot([Scatter(points)], x_range=UNIT).description.endswith("1 of them not finite, 1 outside the axes)")
    # The marks are the same; the legend is not.
    shown, fewer = plot.pixels(), within.pixels()
    assert (shown[:400] == fewer[:400]).all()
    assert (shown[400:] != fewer[400:]).any()


def test_a_plot_cannot_be_changed_after_it_was_made() -> None:
    points = np.zeros((3, 2))
    plot = Plot([Scatter(points)])
    points[:] = np.nan
    assert "not finite" not in plot.description


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(FrameworkError, match=r"shape \(N, 2\), got \(3,\)"):
        Scatter([1, 2, 3])
    with pytest.raises(FrameworkError, match="real numbers"):
        Scatter([["a", "b"]])
    with pytest.raises(FrameworkError, match="mark='ring' of a Scatter: must be one of point, halo"):
        Scatter([[1, 2]], mark="ring")
    with pytest.raises(FrameworkError, match=r"one shape \(N,\)"):
        Line([1, 2], [1])
    with pytest.raises(FrameworkError, match="x of a Surface must be two finite numbers"):
        Surface([[1.0]], x=(1, 0), y=UNIT)
    with pytest.raises(FrameworkError, match="shape \\(rows, columns\\)"):
        Surface([1.0], x=UNIT, y=UNIT)
    with pytest.raises(FrameworkError, match="needs layers"):
        Plot([])
    with pytest.raises(FrameworkError, match="draw a share of them"):
        Plot([Line(np.zeros(MOST_POINTS + 1), np.zeros(MOST_POINTS + 1))])
    with pytest.raises(FrameworkError, match="width=10 of a Plot"):
        Plot([Line([0], [0])], width=10)
    with pytest.raises(FrameworkError, match="y_range of a Plot"):
        Plot([Line([0], [0])], y_range=(0, float("inf")))
