"""The page, one file that loads nothing else; its own security policy forbids it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from framework.media.game_page import game_script, game_style
from framework.media.markup import Html, document, join, tag
from framework.review import sections
from framework.review.facts import header, title
from framework.review.panels import charts
from framework.review.pictures import BUDGET_BYTES, Strip, encode, page_strip, strip
from framework.review.run import Run
from framework.utils.atomic import replacing
from framework.utils.errors import FrameworkError

MAX_RUNS = 8  # as many colours as one can tell apart
# Frames of sounds and pages are under it, too. Their own scripts are forbidden by the frames (see `sections.samples`).
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(path: Path, runs: Sequence[Run]) -> Path:
    """Write the page about `runs`, whole or not at all; an existing file is replaced.

    Raises:
        FrameworkError: there is no run, there are more than `MAX_RUNS`, or the file cannot be written.
    """
    text = render(list(runs))
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FrameworkError(f"--out {path}: cannot be written: {error.strerror}") from None
    return path


def render(runs: list[Run]) -> str:
    """Return the page as text.

    Raises:
        FrameworkError: there is no run, or there are more than `MAX_RUNS`.
    """
    if not 1 <= len(runs) <= MAX_RUNS:
        raise FrameworkError(f"a report shows 1 to {MAX_RUNS} runs, these are {len(runs)}: give fewer of them")
    # Pictures and charts first: what cannot be shown becomes a note.
    _make_names_unique(runs)
    figures, strips = _strips(runs)
    drawn = charts(runs)
    reals = _reals(runs)
    num_bytes = sum(one.num_bytes for one in strips) + sum(len(source) for _, source in reals) * 3 // 4
    # The body, section by section.
    shown = [
        sections.samples(figures, strips, reals, num_bytes=num_bytes),
        sections.game(runs),
        sections.evaluation(runs),
        sections.health(runs),
        sections.curves(drawn),
        sections.checkpoints(runs),
        sections.recipe(runs),
    ]
    played = any(run.game for run in runs)
    notes = [
        tag("p", f"{run.name}: {note}" if len(runs) > 1 else note, class_="note") for run in runs for note in run.notes
    ]
    # The head allows nothing from outside.
    return document(
        header(runs),
        tag("div", *notes, class_="notes") if notes else None,
        _navigation(played=played),
        tag("main", *shown),
        _footer(),
        tag("dialog", tag("img", alt="enlarged grid"), id="large"),
        _script_data(_data(runs, drawn, strips)),
        tag("script", Html(_asset("report.js"))),
        tag("script", Html(game_script())) if played else None,
        title=f"{title(runs)} · training report",
        policy=_POLICY,
        style=_asset("report.css") + (game_style() if played else ""),
    )


def _make_names_unique(runs: list[Run]) -> None:
    """Put the name of the parent folder before names that several runs have."""
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.name) > 1:
            run.name = f"{run.folder.parent.name}/{run.folder.name}"


def _strips(runs: list[Run]) -> tuple[list[dict[str, Any]], list[Strip]]:
    """Return the caption of each key of each run, and what it shows over time: pictures first, then pages."""
    pictures = [(number, run, key) for number, run in enumerate(runs) for key in run.sample_keys]
    pages = [(number, run, key) for number, run in enumerate(runs) for key in run.page_keys]
    budget_bytes = BUDGET_BYTES // max(1, len(pictures) + len(pages))
    strips = [strip(run.grids[key], budget_bytes=budget_bytes) for _, run, key in pictures]
    strips += [page_strip(run.pages[key], budget_bytes=budget_bytes) for _, run, key in pages]
    figures = []
    for number, run, key in (*pictures, *pages):
        name = run.name if len(runs) > 1 else "generated"
        alone = len(run.sample_keys) + len(run.page_keys) == 1
        figures.append({"run": number, "caption": name if alone else f"{name} · {key}"})
    return figures, strips


def _reals(runs: list[Run]) -> list[tuple[str, str]]:
    """Return (caption, data URI) of one grid of real images per data set."""
    found: dict[str, tuple[str, str]] = {}
    for run in runs:
        key = run.tags.get("framework.data_fingerprint", run.name)
        if run.reals is None or key in found:
            continue
        try:
            found[key] = (f"real images ({run.name})", encode(run.reals).source)
        except OSError as error:
            run.notes.append(f"The grid of real images cannot be shown: {error}.")
    return [("real images", source) for _, source in found.values()] if len(found) == 1 else list(found.values())


def _data(runs: list[Run], drawn: list[dict[str, Any]], strips: list[Strip]) -> dict[str, Any]:
    return {
        "runs": [
            {"name": run.name, "resumes": [launch.from_images for launch in run.launches if launch.from_images]}
            for run in runs
        ],
        "charts": drawn,
        # The last one of each strip is in the page already.
        "strips": [{"images": one.images, "sources": one.sources[:-1]} for one in strips],
    }


def _script_data(data: dict[str, Any]) -> Html:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    # Inside <script> nothing is unescaped, and "</script>" in a name would end it.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Html(text), type="application/json", id="data")


def _navigation(*, played: bool) -> Html:
    names = ("samples", *(["game"] if played else []), "evaluation", "health", "curves", "checkpoints", "recipe")
    return tag("nav", *[tag("a", name.capitalize(), href=f"#{name}") for name in names])


def _footer() -> Html:
    from framework import __version__

    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return tag("footer", tag("p", join(f"Made on {made} by framework {__version__} from the run folders alone.")))


def _asset(name: str) -> str:
    return (files("framework.review") / "assets" / name).read_text(encoding="utf-8")
