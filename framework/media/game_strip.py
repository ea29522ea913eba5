"""A still of a game of points: some frames side by side, drawn by matplotlib without a window."""

from __future__ import annotations

import io
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from framework.media.base import Media, Pixels, to_image
from framework.media.recording import (
    Frame,
    Recording,
    gradients_from_text,
    logits_from_text,
    points_from_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRAMES = 6
_COLUMNS = 3
_DPI = 120
_SIDE_INCHES = 2.45
_FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same
# The page's own colours.
_PAPER, _INK, _SOFT, _LINE = "#ffffff", "#1d1d1b", "#63625d", "#e2e0d9"
_FAKE, _GRID, _REAL_SIDE, _EVEN, _FAKE_SIDE = "#9c1458", "#11705a", "#f0a24e", "#faf8f3", "#86b6e6"
_DECADES = 4.0
_MOST_ARROW = 1 / 7
"""The longest arrow, as a share of half the square's side."""


@dataclass(frozen=True, eq=False)
class GameStrip(Media):
    """A drawn still, `(H, W, 3)` uint8, packed as closely as PNG can: smooth surfaces take many bytes."""

    suffix: ClassVar[str] = ".png"
    form: ClassVar[str] = "plot"

    pixels: Pixels
    _: KW_ONLY
    title: str

    @property
    def description(self) -> str:
        """The title."""
        return self.title

    def encode(self) -> bytes:
        """Return the still as a PNG file."""
        buffer = io.BytesIO()
        to_image(self.pixels).save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()


def game_strip(recording: Recording) -> GameStrip:
    """Return six frames of a game, evenly spread over the recorded ones, as one picture with the layers of the page."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    last = len(recording.frames) - 1
    chosen = list(dict.fromkeys(round(share * last) for share in np.linspace(0.0, 1.0, FRAMES)))
    rows = -(-len(chosen) // _COLUMNS)
    longest = _longest(recording)
    # The machine's own settings of matplotlib must not change what is drawn.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"font.family": _FONT, "font.size": 8, "text.parse_math": False})
        size = (_COLUMNS * _SIDE_INCHES, rows * (_SIDE_INCHES + 0.16))
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor=_PAPER)
        canvas = FigureCanvasAgg(figure)
        places = np.atleast_1d(figure.subplots(rows, _COLUMNS)).reshape(-1)
        for axes in places:
            axes.set_axis_off()
        for axes, place in zip(places, chosen, strict=False):
            _draw(axes, recording, recording.frames[place], longest=longest)
        canvas.draw()
        pixels = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    return GameStrip(pixels, title=f"{recording.name}: {len(chosen)} frames of the game between two networks")


def _draw(axes: Axes, recording: Recording, frame: Frame, *, longest: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    scene = recording.scene
    (x, y), half = scene.centre, scene.half
    axes.set_axis_on()
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[], aspect="equal")
    for spine in axes.spines.values():
        spine.set_color(_LINE)
    # The discriminator, and where it is undecided.
    logits = logits_from_text(frame, scene)
    even = scene.undecided
    if even is None:
        even = ((frame.real_logit or 0.0) + (frame.fake_logit or 0.0)) / 2
    known = np.nan_to_num(logits, nan=even)
    lean = np.tanh(known / 2) if scene.probability else (known - even) / (np.abs(known - even).max() or 1.0)
    shades = LinearSegmentedColormap.from_list("sides", [_FAKE_SIDE, _EVEN, _REAL_SIDE])
    edge = half / (scene.side - 1)  # the values are those of points, the outermost on the edge of the square
    extent = (x - half - edge, x + half + edge, y - half - edge, y + half + edge)
    shown = np.sign(lean) * np.abs(lean) ** 0.8
    axes.imshow(shown, origin="lower", extent=extent, cmap=shades, vmin=-1, vmax=1, interpolation="bilinear", zorder=0)
    if known.min() < even < known.max():
        line = np.linspace(-half, half, scene.side)
        axes.contour(
            line + x, line + y, known, levels=[even], colors=_INK, linewidths=0.7, linestyles="dashed", alpha=0.55
        )
    # Points, the grid of latents and gradients.
    reals = points_from_text(scene.reals, scene)
    axes.scatter(reals[:, 0], reals[:, 1], s=26, c=_SOFT, linewidths=0, zorder=2)
    axes.scatter(reals[:, 0], reals[:, 1], s=15, c=_PAPER, linewidths=0, zorder=2.1)
    grid = points_from_text(frame.grid, scene).reshape(*scene.grid, 2)
    for lines in (grid, grid.transpose(1, 0, 2)) if scene.grid[0] > 1 else (grid,):
        axes.plot(lines[..., 0].T, lines[..., 1].T, color=_GRID, linewidth=0.6, alpha=0.62, zorder=3)
    fakes = points_from_text(frame.fakes, scene)
    _draw_arrows(axes, fakes, gradients_from_text(frame.arrows), half=half, longest=longest)
    axes.scatter(fakes[:, 0], fakes[:, 1], s=3.2, c=_FAKE, linewidths=0, alpha=0.9, zorder=5)
    # The words.
    hit = f"   {sum(count > 0 for count in frame.hits)} of {len(frame.hits)} modes" if frame.hits else ""
    axes.set_title(f"{frame.images_seen:,} images{hit}", loc="left", color=_INK, fontsize=8, pad=4)


def _draw_arrows(axes: Axes, fakes: np.ndarray, gradients: np.ndarray, *, half: float, longest: float) -> None:
    from matplotlib.collections import LineCollection

    starts = fakes[: len(gradients)]
    lengths = np.hypot(*gradients.T) if len(gradients) else np.zeros(0)
    drawn = np.isfinite(lengths) & (lengths > 0) & np.isfinite(starts).all(axis=1)
    starts, gradients, lengths = starts[drawn], gradients[drawn], lengths[drawn]
    sizes = _MOST_ARROW * half * np.clip(1 + np.log10(lengths / longest) / _DECADES, 0, 1)
    steps = gradients / lengths[:, None] * sizes[:, None]
    tips = starts + steps
    parts = [np.stack([starts, tips], axis=1)]
    for turn in (2.6, -2.6):
        turned = steps @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        parts.append(np.stack([tips, tips + 0.3 * turned], axis=1))
    axes.add_collection(LineCollection(list(np.concatenate(parts)), colors=_INK, linewidths=0.6, alpha=0.85, zorder=4))


def _longest(recording: Recording) -> float:
    """Return a power of ten that few gradients exceed; 1 where there are none."""
    found = np.concatenate([np.hypot(*gradients_from_text(frame.arrows).T) for frame in recording.frames])
    found = found[np.isfinite(found) & (found > 0)]
    return float(10 ** np.ceil(np.log10(np.quantile(found, 0.99)) - 0.3)) if len(found) else 1.0
