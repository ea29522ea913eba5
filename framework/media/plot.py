"""Plots of points, lines and surfaces in two dimensions, drawn by matplotlib without a window."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from framework.media.base import Media, Pixels, check_text, kept, listed, png, shortened
from framework.utils.errors import FrameworkError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MOST_POINTS = 200_000
"""The most points of a plot, those of lines included."""
MOST_CELLS = 1 << 22
MOST_SIDE = 4096
LEAST_SIDE = 128

_DPI = 144
_FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same
_INK, _SOFT, _GRID, _PAPER = "#1d1d1b", "#63625d", "#e2e0d9", "#ffffff"
# The report draws its runs in these colours.
_HALO = "#c6c1b4"
_COLOURS = ("#2563a8", "#c2571a", "#2a7d54", "#8a4fa3", "#a58400", "#0f8a92", "#b0306a", "#5b5f66")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", ":", "-.")
_SHADES = ("#f9f8f5", "#dedbd2", "#b9b5aa", "#8f8b80")
_PIXELS_PER_CHARACTER = 12
_MOST_LEGEND_CHARACTERS = 40

Range = tuple[float, float]
Mark = Literal["point", "halo"]
"""A mark of its layer's colour, or a wide grey disc that stays visible around the points of layers above it."""


@dataclass(frozen=True, eq=False)
class Scatter:
    """Points, each drawn as a mark.

    Attributes:
        points: `(N, 2)` numbers, x and y of each. Those that are not finite are left out and counted.
        label: their name in the legend.
        mark: `point`, or `halo` for what other points are compared with, such as real samples; see `Mark`.

    Raises:
        FrameworkError: other points, a text that cannot be drawn, or an unknown mark.
    """

    points: NDArray[Any]
    _: KW_ONLY
    label: str = ""
    mark: Mark = "point"

    def __post_init__(self) -> None:
        if self.mark not in get_args(Mark):
            raise FrameworkError(f"mark={self.mark!r} of a Scatter: must be one of {', '.join(get_args(Mark))}")
        points = _numbers(self.points, what="the points of a Scatter")
        if points.ndim != 2 or points.shape[1] != 2:
            raise FrameworkError(f"the points of a Scatter must have the shape (N, 2), got {points.shape}")
        object.__setattr__(self, "points", points)
        check_text(self.label, what="the label of a Scatter")

    @property
    def size(self) -> int:
        """The number of points."""
        return len(self.points)

    def outside(self, *, x: Range | None, y: Range | None) -> int:
        """Return the number of finite points that axes with these ends do not show; None: an end without a limit."""
        points = self.points[np.isfinite(self.points).all(axis=1)]
        shown = np.ones(len(points), bool)
        for values, ends in zip(points.T, (x, y), strict=True):
            if ends is not None:
                shown &= (values >= ends[0]) & (values <= ends[1])
        return int((~shown).sum())

    def told(self, *, outside: int = 0) -> str:
        """Return the label, the number of points, and how many of them are not finite or outside the axes."""
        lost = self.size - int(np.isfinite(self.points).all(axis=1).sum())
        noun = f"{self.size:,} point{'s' * (self.size != 1)}"
        if lost:
            noun += f", {lost:,} of them not finite"
        if outside:
            noun += f", {outside:,} outside the axes"
        return f"{self.label or 'points'} ({noun})"


@dataclass(frozen=True, eq=False)
class Line:
    """A curve from point to point in the given order.

    Attributes:
        x: `(N,)` numbers.
        y: `(N,)` numbers. Where a point is not finite, the line is broken.
        label: its name in the legend.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    _: KW_ONLY
    label: str = ""

    def __post_init__(self) -> None:
        x, y = _numbers(self.x, what="the x of a Line"), _numbers(self.y, what="the y of a Line")
        if x.ndim != 1 or x.shape != y.shape:
            raise FrameworkError(f"a Line needs x and y of one shape (N,), got {x.shape} and {y.shape}")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)
        check_text(self.label, what="the label of a Line")

    @property
    def size(self) -> int:
        """The number of points."""
        return len(self.x)

    def told(self) -> str:
        """Return the label, the number of points, and where the line ends."""
        finite = np.isfinite(self.x) & np.isfinite(self.y)
        ending = f", ending at {self.y[finite][-1]:.4g}" if finite.any() else ""
        return f"{self.label or 'line'} ({self.size:,} point{'s' * (self.size != 1)}{ending})"


@dataclass(frozen=True, eq=False)
class Surface:
    """Values over a rectangle, as shades of grey with a scale beside the plot; drawn below points and lines.

    Attributes:
        values: `(rows, columns)` numbers; row 0 lies at the lowest y. Those that are not finite stay white.
        x: the left and the right edge of the rectangle.
        y: the lower and the upper edge.
        label: what the values are, beside their scale.
    """

    values: NDArray[Any]
    _: KW_ONLY
    x: Range
    y: Range
    label: str = ""

    def __post_init__(self) -> None:
        values = _numbers(self.values, what="the values of a Surface")
        if values.ndim != 2 or not 0 < values.size <= MOST_CELLS:
            raise FrameworkError(
                f"the values of a Surface must have a shape (rows, columns) of at most {MOST_CELLS:,} cells, "
                f"got {values.shape}"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "x", _edges(self.x, what="the x of a Surface"))
        object.__setattr__(self, "y", _edges(self.y, what="the y of a Surface"))
        check_text(self.label, what="the label of a Surface")

    def told(self) -> str:
        """Return the label, and the range of the values."""
        finite = self.values[np.isfinite(self.values)]
        between = f" (between {finite.min():.4g} and {finite.max():.4g})" if finite.size else " (no finite value)"
        return f"{self.label or 'surface'}{between}"


@dataclass(frozen=True, eq=False)
class Plot(Media):
    """Layers over one pair of axes.

    Give `x_range` and `y_range` where plots of several clocks are compared: otherwise the axes move with the data.

    Attributes:
        layers: what is drawn, the first at the bottom; a surface lies below all others.
        title: the text above.
        x_label: the name of the x axis.
        y_label: the name of the y axis.
        x_range: the ends of the x axis; by default, as the data need.
        y_range: the ends of the y axis; by default, as the data need.
        equal_axes: gives a unit the same length on both axes, for points in a plane.
        width: pixels.
        height: pixels.

    Raises:
        FrameworkError: no layer, too many points, a wrong size, or a text that cannot be drawn.
    """

    suffix: ClassVar[str] = ".png"
    form: ClassVar[str] = "plot"

    layers: Sequence[Scatter | Line | Surface]
    _: KW_ONLY
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    x_range: Range | None = None
    y_range: Range | None = None
    equal_axes: bool = False
    width: int = 768
    height: int = 576

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        if not layers or not all(isinstance(layer, Scatter | Line | Surface) for layer in layers):
            raise FrameworkError("a Plot needs layers, each a Scatter, a Line or a Surface")
        if (num_points := sum(layer.size for layer in layers if not isinstance(layer, Surface))) > MOST_POINTS:
            raise FrameworkError(f"a Plot of {num_points:,} points: draw a share of them, {MOST_POINTS:,} at most")
        object.__setattr__(self, "layers", layers)
        for text in (self.title, self.x_label, self.y_label):
            check_text(text, what="a text of a Plot")
        for name in ("x_range", "y_range"):
            if (ends := getattr(self, name)) is not None:
                object.__setattr__(self, name, _edges(ends, what=f"{name} of a Plot"))
        for name, side in (("width", self.width), ("height", self.height)):
            if type(side) is not int or not LEAST_SIDE <= side <= MOST_SIDE:
                raise FrameworkError(f"{name}={side!r} of a Plot: must be from {LEAST_SIDE} to {MOST_SIDE} pixels")

    @property
    def description(self) -> str:
        """The title, the axes, and what each layer holds."""
        axes = f"{self.y_label} over {self.x_label}" if self.x_label and self.y_label else ""
        head = ", ".join(text for text in (self.title, axes) if text)
        layers = [
            layer.told(outside=self._outside(layer)) if isinstance(layer, Scatter) else layer.told()
            for layer in self.layers
        ]
        return shortened(f"{head or 'plot'}: {listed(layers, between='; ')}")

    def _outside(self, layer: Scatter) -> int:
        return layer.outside(x=self.x_range, y=self.y_range)

    def encode(self) -> bytes:
        """Return the plot as a PNG file."""
        return png(self.pixels())

    def pixels(self) -> Pixels:
        """Return the plot as drawn, `(height, width, 3)` uint8."""
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # The machine's own settings of matplotlib must not change what is drawn.
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update({"font.family": _FONT, "font.size": 10, "text.parse_math": False})
            figure = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI, layout="constrained")
            canvas = FigureCanvasAgg(figure)
            self._draw(figure)
            canvas.draw()
            return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])

    def _draw(self, figure: Figure) -> None:
        figure.set_facecolor(_PAPER)
        axes = figure.add_subplot()
        _set_up(axes, grid=not any(isinstance(layer, Surface) for layer in self.layers))
        # Surfaces lie lowest; marks and lines follow in the order of the layers, each with a look of its own.
        looks = (_look(number) for number in count())
        named: list[tuple[Any, str]] = []
        for layer in self.layers:
            if isinstance(layer, Surface):
                _draw_surface(figure, axes, layer)
                continue
            is_halo = isinstance(layer, Scatter) and layer.mark == "halo"
            colour, marker, dashes = (_HALO, "o", "-") if is_halo else next(looks)
            if isinstance(layer, Scatter):
                drawn: Any = _draw_scatter(axes, layer, colour=colour, marker=marker)
            else:
                (drawn,) = axes.plot(
                    _finite(layer.x), _finite(layer.y), color=colour, linestyle=dashes, linewidth=1.5, zorder=3
                )
            if layer.label:
                outside = self._outside(layer) if isinstance(layer, Scatter) else 0
                named.append((drawn, f"{layer.label} ({outside:,} outside)" if outside else layer.label))
        # The axes and the words around them.
        axes.set_xlabel(_wrapped(self.x_label, pixels=self.width), color=_SOFT)
        axes.set_ylabel(_wrapped(self.y_label, pixels=self.height), color=_SOFT)
        axes.set_title(_wrapped(self.title, pixels=self.width), loc="left", color=_INK, fontsize=11, pad=10)
        if self.equal_axes:
            axes.set_aspect("equal", adjustable="box" if self.x_range or self.y_range else "datalim")
        if self.x_range:
            axes.set_xlim(self.x_range)
        if self.y_range:
            axes.set_ylim(self.y_range)
        if named:
            _draw_legend(figure, named)


def _look(number: int) -> tuple[str, str, str]:
    """Return the colour, the marker and the dashes of a layer; the same colour comes back with other dashes."""
    turn, place = divmod(number, len(_COLOURS))
    return _COLOURS[place], _MARKERS[(place + turn) % len(_MARKERS)], _DASHES[(place + turn) % len(_DASHES)]


def _set_up(axes: Axes, *, grid: bool) -> None:
    axes.set_facecolor(_PAPER)
    if grid:
        axes.set_axisbelow(True)
        axes.grid(color=_GRID, linewidth=0.8)
    axes.tick_params(colors=_SOFT, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GRID)


def _draw_surface(figure: Figure, axes: Axes, surface: Surface) -> None:
    values = np.ma.masked_invalid(surface.values)
    shown = axes.imshow(
        values,
        origin="lower",
        extent=(*surface.x, *surface.y),
        aspect="auto",
        cmap=_shades(),
        interpolation="nearest",
        zorder=0.5,
    )
    # Inside the axes' own frame it keeps their height, also where they are square.
    scale = figure.colorbar(shown, cax=axes.inset_axes((1.03, 0.0, 0.035, 1.0)))
    scale.set_label(surface.label, color=_SOFT)
    scale.ax.tick_params(colors=_SOFT, labelsize=9, length=0)
    scale.outline.set_visible(False)


def _draw_scatter(axes: Axes, layer: Scatter, *, colour: str, marker: str) -> Any:
    points = layer.points[np.isfinite(layer.points).all(axis=1)]
    if layer.mark == "halo":
        # Opaque, so that a crowd of them is one even patch.
        return axes.scatter(points[:, 0], points[:, 1], s=90.0, c=colour, marker=marker, linewidths=0, zorder=1.5)
    # Many points are smaller and lighter, so that a crowd still has a shape.
    area = 26.0 if len(points) <= 200 else 12.0 if len(points) <= 2000 else 5.0
    return axes.scatter(
        points[:, 0],
        points[:, 1],
        s=area,
        c=colour,
        marker=marker,
        alpha=0.65,
        linewidths=0.4,
        edgecolors=_PAPER,
        zorder=2,
    )


def _draw_legend(figure: Figure, named: Sequence[tuple[Any, str]]) -> None:
    from matplotlib.collections import PathCollection

    most = _MOST_LEGEND_CHARACTERS
    texts = [label if len(label) <= most else f"{label[: most - 1]}…" for _, label in named]
    per_row = max(1, min(len(texts), 64 // (max(map(len, texts)) + 6)))
    legend = figure.legend(
        [drawn for drawn, _ in named],
        texts,
        loc="outside lower center",
        ncols=per_row,
        frameon=False,
        labelcolor=_INK,
        fontsize=9,
        handletextpad=0.4,
        columnspacing=1.4,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
        if isinstance(handle, PathCollection):
            handle.set_sizes([32.0])


def _shades() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("greys", _SHADES).with_extremes(bad=_PAPER)


def _wrapped(text: str, *, pixels: int) -> str:
    """Return a text in lines that fit into so many pixels."""
    return textwrap.fill(text, max(10, pixels // _PIXELS_PER_CHARACTER - 8))


def _numbers(values: Any, *, what: str) -> NDArray[np.float64]:
    """Return a copy in double precision that nobody can change."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise FrameworkError(f"{what} must be real numbers, got {array.dtype}")
    return kept(array.astype(np.float64))


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with NaN, which breaks a line, in the place of infinity, which would stretch the axes."""
    return np.where(np.isfinite(values), values, np.nan)


def _edges(ends: Any, *, what: str) -> Range:
    low, high = (float(end) for end in ends) if len(ends) == 2 else (np.nan, np.nan)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise FrameworkError(f"{what} must be two finite numbers, the smaller one first, got {ends!r}")
    return low, high
