"""The fidelity-diversity curve of a truncation sweep as an SVG of our own: no plotting library is needed.

Left axis: precision and recall, in [0, 1]. Right axis: the Frechet distance, from 0. Below: the truncation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 70, 56, 52
_COLOURS = ("#1b6ca8", "#c8553d", "#2f7d4f", "#7a5195")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_LEGEND_LINE, _LETTER = 32, 7.0  # pixels, at a font size of 12; letters are mostly narrower


def sweep_svg(
    places: Sequence[float],
    curves: Mapping[str, Sequence[float | None]],
    *,
    axis: str,
    title: str,
    on_right: Sequence[str] = (),
    note: str = "",
) -> str:
    """Draw the curves of a truncation sweep and return the text of an SVG document.

    Args:
        places: the truncations, ascending.
        curves: one value per place for each name; None leaves a gap.
        axis: name of the truncation.
        title: text above the chart.
        on_right: names of the curves that belong to the right axis.
        note: text below the chart, such as the hash of the protocol.
    """
    highest = max([v for name in on_right for v in curves[name] if v is not None], default=0.0)
    top_right = _round_up(highest)
    tops = {name: top_right if name in on_right else 1.0 for name in curves}
    body = [*_frame(places, axis, title, note), *_ticks(top_right if on_right else None)]
    for index, (name, values) in enumerate(curves.items()):
        body += _curve(places, values, top=tops[name], index=index)
    body += _legend([f"{name} (right)" if name in on_right else name for name in curves])
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">'
    )
    return "\n".join([head, *body, "</svg>\n"])


def _x(place: float, places: Sequence[float]) -> float:
    low, high = min(places), max(places)
    share = 0.5 if high == low else (place - low) / (high - low)
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return HEIGHT - _BOTTOM - min(1.0, max(0.0, share)) * (HEIGHT - _TOP - _BOTTOM)


def _text(x: float, y: float, text: str, *, anchor: str = "middle", size: float = 12, rest: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}"{rest}>{escape(text)}</text>'


def _frame(places: Sequence[float], axis: str, title: str, note: str) -> list[str]:
    plot = f'x="{_LEFT}" y="{_TOP}" width="{WIDTH - _LEFT - _RIGHT}" height="{HEIGHT - _TOP - _BOTTOM}"'
    marks = [_text(_x(place, places), HEIGHT - _BOTTOM + 18, f"{place:g}") for place in places]
    return [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<rect {plot} fill="none" stroke="#999"/>',
        _text(_LEFT, 20, title, anchor="start", size=14),
        *marks,
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 12, axis),
        _text(WIDTH - 8, HEIGHT - 6, note, anchor="end", size=9, rest=' fill="#777"'),
    ]


def _ticks(top_right: float | None) -> list[str]:
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        lines.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>')
        lines.append(_text(_LEFT - 8, y + 4, f"{share:g}", anchor="end"))
        if top_right is not None:
            lines.append(_text(WIDTH - _RIGHT + 8, y + 4, f"{share * top_right:g}", anchor="start"))
    return lines


def _curve(places: Sequence[float], values: Sequence[float | None], *, top: float, index: int) -> list[str]:
    colour, dash = _COLOURS[index % 4], _DASHES[index % 4]
    points = [(_x(p, places), _y(v / top)) for p, v in zip(places, values, strict=True) if v is not None]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
    return [line, *dots]


def _legend(names: Sequence[str]) -> list[str]:
    """Draw the legend in one row; long names make it smaller, so that they do not run into each other."""
    widths = [_LEGEND_LINE + _LETTER * len(name) + 16 for name in names]
    scale = min(1.0, (WIDTH - 8 - _LEFT) / sum(widths))
    parts, x = [], float(_LEFT)
    for index, (name, width) in enumerate(zip(names, widths, strict=True)):
        stroke = f'stroke="{_COLOURS[index % 4]}" stroke-width="2" stroke-dasharray="{_DASHES[index % 4]}"'
        end = x + scale * (_LEGEND_LINE - 6)
        parts.append(f'<line x1="{x:.1f}" x2="{end:.1f}" y1="40" y2="40" {stroke}/>')
        parts.append(_text(x + scale * _LEGEND_LINE, 44, name, anchor="start", size=12 * scale))
        x += scale * width
    return parts


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1.0, 2.0, 4.0, 6.0, 8.0, 10.0) if step * unit >= value)
