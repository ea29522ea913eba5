"""Games of points as a page: a slider over training, layers, curves and values, in one file that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from framework.media.base import check_text
from framework.media.markup import Html, document, join, tag
from framework.media.page import Page
from framework.media.recording import Frame, Recording
from framework.utils.errors import FrameworkError

MOST_RUNS = 8
"""As many colours as one can tell apart."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_STYLE = """
:root { --page: #fbfaf7; --ink: #1d1d1b; --soft: #63625d; color-scheme: light dark; }
@media screen and (prefers-color-scheme: dark) { :root { --page: #161614; --ink: #ecebe6; --soft: #a09e96; } }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1.75rem 3rem; max-width: 74rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1, .lead { overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.5rem; line-height: 1.25; font-weight: 600; letter-spacing: -.015em; }
.lead { margin: .2rem 0 .3rem; color: var(--soft); }
@media (max-width: 620px) { body { padding: 1rem .9rem 2.5rem; } h1 { font-size: 1.25rem; } }
"""
_GLYPHS = {
    "reals": '<circle cx="8" cy="8" r="5" fill="var(--g-paper)" stroke="var(--g-soft)"/>'
    '<circle cx="15" cy="8" r="5" fill="var(--g-paper)" stroke="var(--g-soft)"/>'
    '<path d="M11.5 5v6" stroke="var(--g-paper)" stroke-width="3"/>',
    "fakes": '<g fill="var(--g-fake)"><circle cx="6" cy="9" r="2.6"/><circle cx="12" cy="5" r="2.6"/>'
    '<circle cx="18" cy="10" r="2.6"/></g>',
    "surface": '<rect x="1" y="2" width="7.4" height="12" fill="var(--g-fake-side)"/>'
    '<rect x="8.3" y="2" width="7.4" height="12" fill="var(--g-even)"/>'
    '<rect x="15.6" y="2" width="7.4" height="12" fill="var(--g-real-side)"/>'
    '<path d="M12 2v12" stroke="var(--g-ink)" stroke-dasharray="3 2"/>',
    "arrows": '<path d="M3 13 20 4M20 4l-6 .6M20 4l-3.4 5" fill="none" stroke="var(--g-arrow)" stroke-width="1.5"/>',
    "grid": '<path d="M2 3q9 4 20 0M2 8q10 4 20 0M2 13q11 4 20 0M6 2q4 6 0 12M12 3q4 6 0 11M18 2q4 6 0 12" fill="none" '
    'stroke="var(--g-grid)" stroke-width="1.2"/>',
    "modes": '<circle cx="7" cy="8" r="5.5" fill="none" stroke="var(--g-ink)" stroke-width="2"/>'
    '<circle cx="18" cy="8" r="5" fill="none" stroke="var(--g-ink)" stroke-dasharray="2.5 2.5"/>',
}
_NAMES = {
    "reals": "Real points",
    "fakes": "Generated points",
    "surface": "Discriminator",
    "arrows": "Gradients",
    "grid": "Latent grid",
    "modes": "Modes",
}


def game_page(recordings: Sequence[Recording]) -> Page:
    """Return a page on which recorded games are played side by side on one clock; the same bytes for the same games.

    Raises:
        FrameworkError: there is none, there are more than `MOST_RUNS`, or the page would be too large.
    """
    title = game_title(recordings)
    page = document(
        tag("h1", title),
        tag("p", _lead(recordings), class_="lead"),
        tag("main", game_section(recordings, whole_page=True)),
        tag("script", Html(game_script())),
        title=f"{title} · the game",
        policy=_POLICY,
        style=_STYLE + game_style(),
    )
    return Page(page, title=check_text(title[:200], what="title"))


def game_title(recordings: Sequence[Recording]) -> str:
    """Return `recipe: run, run`, or the name alone where they are the same.

    Raises:
        FrameworkError: there is no recording, or there are more than `MOST_RUNS`.
    """
    if not 1 <= len(recordings) <= MOST_RUNS:
        raise FrameworkError(f"a page shows the games of 1 to {MOST_RUNS} runs, these are {len(recordings)}")
    recipes = list(dict.fromkeys(one.recipe for one in recordings))
    names = ", ".join(one.name for one in recordings)
    head = recipes[0] if len(recipes) == 1 else ""
    return names if head in ("", names) else f"{head}: {names}"


def game_style() -> str:
    """Return the styles of `game_section`."""
    return _asset("game.css")


def game_script() -> str:
    """Return the script that plays every `game_section` of its page; it comes after them."""
    return _asset("game.js")


def game_section(recordings: Sequence[Recording], *, whole_page: bool = False) -> Html:
    """Return the games side by side: controls, pictures, curves, and the words for each layer.

    Args:
        recordings: 1 to `MOST_RUNS` runs.
        whole_page: take key strokes anywhere on the page; otherwise where the focus is inside.
    """
    game_title(recordings)
    alone = len(recordings) == 1
    clocks = sorted({frame.images_seen for one in recordings for frame in one.frames})
    return tag(
        "div",
        tag("noscript", tag("p", "The game is drawn by this page's own script, which is switched off here.")),
        _time(len(clocks)),
        _layers(recordings),
        tag(
            "div",
            tag("div", *[_figure(place, one, alone=alone) for place, one in enumerate(recordings)], class_="g-runs"),
            tag("div", class_="g-charts"),
            class_="g-stage g-one" if alone else "g-stage",
        ),
        _words(recordings),
        _alerts(recordings),
        _data({"runs": [_run(one) for one in recordings]}),
        class_="game",
        data_keys="page" if whole_page else "inside",
    )


def _lead(recordings: Sequence[Recording]) -> str:
    losses = dict.fromkeys(one.scene.loss for one in recordings if one.scene.loss)
    ends = dict.fromkeys(one.frames[-1].images_seen for one in recordings)
    told = f"{' and '.join(losses)} loss, " if losses else ""
    return (
        f"The game between generator and discriminator, {told}{' and '.join(f'{end:,}' for end in ends)} images seen."
    )


def _time(num_clocks: int) -> Html:
    """Return what moves the clock: buttons, slider, marks of sentinels, speed, and what the clock says."""
    speeds = [("¼ ×", ".25"), ("½ ×", ".5"), ("1 ×", "1"), ("2 ×", "2"), ("4 ×", "4")]
    options = [tag("option", text, value=value, selected=value == "1") for text, value in speeds]
    last = num_clocks - 1
    slider = tag("input", type="range", min=0, max=last, value=last, step=1, aria_label="images seen, log-spaced")
    return tag(
        "div",
        tag(
            "div",
            tag("button", "▶ Play", type="button", class_="g-play", aria_keyshortcuts="Space"),
            tag("button", "◀", type="button", class_="g-earlier", aria_label="earlier frame"),
            tag("button", "▶", type="button", class_="g-later", aria_label="later frame"),
            class_="g-buttons",
        ),
        tag(
            "div",
            slider,
            tag("div", class_="g-axis", aria_hidden="true"),
            tag("div", class_="g-marks"),
            class_="g-track",
        ),
        tag("label", tag("span", "speed", class_="g-hidden"), tag("select", *options), class_="g-speed"),
        tag("div", tag("b", class_="g-images"), tag("span", class_="g-frame g-soft"), class_="g-clock"),
        tag("p", role="status", aria_live="polite", class_="g-hidden"),
        class_="g-time",
    )


def _layers(recordings: Sequence[Recording]) -> Html:
    """Return a switch for each layer, which is also its legend."""
    buttons = [
        tag(
            "button",
            tag("svg", Html(_GLYPHS[key]), viewBox="0 0 24 16", class_="g-glyph", aria_hidden="true"),
            _NAMES[key],
            tag("kbd", str(number), aria_hidden="true"),
            type="button",
            data_layer=key,
            aria_pressed="true",
            aria_keyshortcuts=str(number),
        )
        for number, key in enumerate(_shown(recordings), start=1)
    ]
    return tag("div", *buttons, class_="g-layers", role="group", aria_label="layers of the picture")


def _shown(recordings: Sequence[Recording]) -> list[str]:
    """Return the keys of the layers that some run has."""
    lacking = {"arrows"} if not any(one.scene.arrows for one in recordings) else set()
    lacking |= {"modes"} if not any(one.scene.modes for one in recordings) else set()
    return [key for key in _NAMES if key not in lacking]


def _figure(place: int, one: Recording, *, alone: bool) -> Html:
    label = f"The plane of the data in run {one.name} with the layers that are on; Shift and an arrow key read values"
    caption = tag("figcaption", tag("span", class_="g-swatch"), tag("b", one.name), f" {one.scene.loss}")
    return tag(
        "figure",
        None if alone else caption,
        tag("canvas", role="img", tabindex=0, aria_label=label, width=600, height=600),
        tag("p", _final(one), class_="g-facts"),
        tag("p", class_="g-probe"),
        class_=f"g-r{place}",
    )


def _final(one: Recording) -> str:
    """Return what the last frame shows, for those whose browser runs no script."""
    frame = one.frames[-1]
    hit = f", {sum(count > 0 for count in frame.hits)} of {len(frame.hits)} modes hit" if frame.hits else ""
    return f"After {frame.images_seen:,} images{hit}."


def _words(recordings: Sequence[Recording]) -> Html:
    """Return a sentence or two for each layer, and how the page is used."""
    words = _sentences(recordings)
    told = [_term(_NAMES[key], words[key], glyph=_GLYPHS[key]) for key in _shown(recordings)]
    time = (
        "Frames are log-spaced: every step at first, then every 5 per cent of images seen. Networks are asked in "
        "evaluation mode. Several runs share the clock; one without a frame at a clock shows the frame before."
    )
    keys = (
        "Space plays and pauses; arrows, Page Up and Page Down, Home and End move; the numbers switch layers. Shift "
        "and an arrow key move the pointer over a picture that has the focus."
    )
    return join(
        tag("h3", "What is shown"), tag("dl", *told, _term("Time", time), _term("Keys", keys), class_="g-words")
    )


def _term(name: str, words: str | Html, *, glyph: str = "") -> Html:
    drawn = tag("svg", Html(glyph), viewBox="0 0 24 16", class_="g-glyph", aria_hidden="true") if glyph else None
    return tag("div", tag("dt", drawn, name), tag("dd", words))


def _sentences(recordings: Sequence[Recording]) -> dict[str, str | Html]:
    """Return the words for each layer."""
    scene = recordings[0].scene
    slices = "; ".join(dict.fromkeys(one.scene.slice for one in recordings))
    of_class = " of the first class" if any(one.scene.classes for one in recordings) else ""
    of_loss = {one.scene.probability for one in recordings}
    depths = ["by its probability"] if True in of_loss else []
    depths += ["by the distance from the undecided logit, in the frame's range"] if False in of_loss else []
    drifting = any(one.scene.undecided is None for one in recordings)
    middle = ", for a critic without such a logit half way between its means on real and on generated points"
    return {
        "reals": f"{scene.num_reals} points of the data, the same in every frame. The picture shows their square and a "
        "quarter beyond it on each side.",
        "fakes": f"{scene.fakes} points that the generator being trained (not its average) makes of the same latents "
        "in every frame.",
        "surface": join(
            f"What the discriminator D says of every point{of_class}, deeper {', or '.join(depths)}: ",
            tag("span", class_="g-scale", role="img", aria_label="from blue over pale to orange"),
            f" from generated (blue) to real (orange). The dashed line is where it is undecided{middle * drifting}.",
        ),
        "arrows": join(
            f"Where the generator's loss pulls each of {scene.arrows} generated points: against its gradient. ",
            tag("span", class_="g-arrow-scale"),
            " Short arrows everywhere mean that it learns little.",
        ),
        "grid": f"The image of a square grid of latents{of_class}: {slices}. Where it folds or its lines crowd, many "
        "latents make the same points.",
        "modes": "Circles around the data's modes: whole where a generated point is good (within three standard "
        "deviations of the middle), dashed where none is.",
    }


def _alerts(recordings: Sequence[Recording]) -> Html | None:
    """Return what the sentinels said, in words; None where they said nothing."""
    alone = len(recordings) == 1
    lines = []
    for one in recordings:
        for mark in one.marks:
            who = "" if alone else f"{one.name}: "
            state = "" if mark.state == mark.sentinel else f" {mark.state}"
            reason = f": {mark.reason}" if mark.reason else ""
            remedy = tag("span", f" Usual remedy: {mark.remedy}.", class_="g-soft") if mark.remedy else None
            lines.append(tag("li", f"{who}{mark.sentinel}{state} at {mark.images_seen:,} images{reason}.", remedy))
    return join(tag("h3", "Sentinels"), tag("ul", *lines, class_="g-alerts")) if lines else None


def _run(one: Recording) -> dict[str, Any]:
    scene, frames = one.scene, one.frames
    return {
        "name": one.name,
        "centre": scene.centre,
        "half": scene.half,
        "side": scene.side,
        "grid": scene.grid,
        "num_fakes": scene.fakes,
        "num_arrows": scene.arrows,
        "step_images": scene.step_images,
        "probability": scene.probability,
        "undecided": scene.undecided,
        "modes": scene.modes,
        "mode_radius": scene.mode_radius,
        "reals": scene.reals,
        "images": [frame.images_seen for frame in frames],
        **{name: [getattr(frame, name) for frame in frames] for name in _OF_FRAMES},
        "arrow": [frame.arrows for frame in frames],
        "grids": [frame.grid for frame in frames],
        "series": {name: [(images, _short(value)) for images, value in found] for name, found in one.series.items()},
        "marks": [
            {"images": mark.images_seen, "state": mark.state, "sentinel": mark.sentinel, "reason": mark.reason}
            for mark in one.marks
        ],
    }


_OF_FRAMES = ("fakes", "surface", "low", "high", "hits", "real_logit", "fake_logit")
assert {*_OF_FRAMES} <= Frame.__dataclass_fields__.keys()


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _data(data: dict[str, Any]) -> Html:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    # Inside <script> nothing is unescaped, and "</script>" in a name would end it.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Html(text), type="application/json", class_="g-data")


def _asset(name: str) -> str:
    return (files("framework.media") / "assets" / name).read_text(encoding="utf-8")
