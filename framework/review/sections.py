"""The sections of the page below its head: samples, evaluation, health, curves, checkpoints, recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from framework.media.game_page import game_section
from framework.media.markup import Html, join, tag
from framework.review.facts import swatch, utc
from framework.review.panels import all_scores
from framework.review.pictures import Strip, data_uri
from framework.review.run import PAGE_FORMS, Run
from framework.tracking.checkpoints import Score, best_of
from framework.tracking.records import HEALTH_STATES
from framework.utils.bounded import read_file
from framework.utils.errors import FrameworkError
from framework.utils.leaves import leaves
from framework.utils.quantities import format_bytes

_NONE = "–"
_NOUNS = {"pictures": "grids", "plot": "plots", "sounds": "sets of sounds", "page": "pages"}
_LEAST_WIDTH, _FULL_WIDTH = 320, 960
"""CSS pixels: what a small picture is enlarged to, and the `max-width` of all in report.css."""
_MOST_FIGURE_BYTES = 4 << 20


def section(key: str, title: str, *children: Html | None) -> Html:
    """Return a section with a heading that can be linked to."""
    return tag("section", tag("h2", title), *children, id=key)


def samples(
    figures: list[dict[str, Any]], strips: list[Strip], reals: list[tuple[str, str]], *, num_bytes: int
) -> Html:
    """Return what the runs show over time, with one slider for all of them, and real images beside it.

    Args:
        figures: the run number and caption of each strip.
        strips: pictures, plots, sounds and pages, in the same order.
        reals: (caption, data URI) of each grid of real images.
        num_bytes: the size of all that is embedded, which the page shows.
    """
    if not any(one.images for one in strips):
        text = "No sample grid, plot, sound or page is in this run's journal."
        unseen = [tag("p", note, class_="note") for one in strips for note in one.notes]
        return section("samples", "Samples", tag("p", text, class_="none"), *unseen)
    # Each at its last clock, real images behind the first kind.
    clocks = sorted({images for one in strips for images in one.images})
    shown = [
        _shown(place, figure, one)
        for place, (figure, one) in enumerate(zip(figures, strips, strict=True))
        if one.images and one.form not in PAGE_FORMS
    ]
    for text, source in reals:
        image = tag("img", src=source, alt=text, class_="grid")
        shown.append(tag("figure", tag("figcaption", tag("span", class_="swatch real"), text), image))
    framed = [
        _shown(place, figure, one)
        for place, (figure, one) in enumerate(zip(figures, strips, strict=True))
        if one.images and one.form in PAGE_FORMS
    ]
    return section(
        "samples",
        "Samples over time",
        _slider(clocks),
        tag("div", *shown, class_="figures") if shown else None,
        tag("div", *framed, class_="figures") if framed else None,
        tag("p", _extent(strips, num_bytes=num_bytes, framed=bool(framed)), class_="aside"),
        *[tag("p", note, class_="note") for one in strips for note in one.notes],
    )


def _shown(place: int, figure: dict[str, Any], one: Strip) -> Html:
    """Return a figure of what a strip shows last.

    Anybody may have written the run folder: a page is put into a frame of its own, which may neither run scripts nor
    reach this page, open windows or send forms; this page's security policy, which holds there too, loads nothing.
    """
    caption = tag("figcaption", swatch(figure["run"]), f"{figure['caption']} ", tag("span", class_="at"))
    words = f"{figure['caption']}: {one.description}" if one.description else f"generated images, {figure['caption']}"
    if one.form in PAGE_FORMS:
        content = tag("iframe", sandbox="", srcdoc=one.sources[-1], title=words, class_=f"frame {one.form}")
    else:
        # A narrow picture would become a blur over the whole column; a plot has words, which have their size.
        most = max(_LEAST_WIDTH, one.width if one.form == "plot" else 2 * one.width)
        content = tag(
            "img",
            src=one.sources[-1],
            alt=words,
            class_="grid plot" if one.form == "plot" else "grid",
            style=f"max-width: {most}px" if most < _FULL_WIDTH else None,
        )
    return tag("figure", caption, content, data_strip=place)


def _slider(clocks: list[int]) -> Html:
    return tag(
        "div",
        tag("button", "◀", id="earlier", type="button", aria_label="earlier"),
        tag("input", type="range", id="clock", min=0, max=len(clocks) - 1, value=len(clocks) - 1, step=1,
            aria_label="images seen"),
        tag("button", "▶", id="later", type="button", aria_label="later"),
        tag("button", "Play", id="play", type="button"),
        tag("output", f"{clocks[-1]:,} images", id="clock-text", for_="clock"),
        class_="controls",
    )  # fmt: skip


def _extent(strips: list[Strip], *, num_bytes: int, framed: bool) -> str:
    """Return what of the run is on the page, and how to look at it."""
    counts: dict[str, list[int]] = {}
    for one in strips:
        count = counts.setdefault(_NOUNS.get(one.form, "pictures"), [0, 0])
        count[0] += len(one.images)
        count[1] += one.num_recorded
    told = ", ".join(f"{kept} {noun}" if kept == all_ else f"{kept} of {all_} recorded {noun}"
                     for noun, (kept, all_) in counts.items())  # fmt: skip
    hint = f"{told}, {format_bytes(num_bytes)}. Arrow keys move the slider; a click enlarges a picture."
    return f"{hint} Scripts of embedded pages are switched off here: open the files themselves." if framed else hint


def game(runs: list[Run]) -> Html | None:
    """Return the recorded games of runs on points, side by side on one clock; None without any."""
    recordings = [replace(run.game, name=run.name) for run in runs if run.game]
    return section("game", "The game", game_section(recordings)) if recordings else None


def evaluation(runs: list[Run]) -> Html:
    """Return a table with one row per metric and protocol: the best and the last value of each run."""
    # Scores, and metrics that could not be measured.
    found = all_scores(runs)
    missing = [
        tag("p", f"{run.name}: {metric} at {images:,} images is missing: {why}", class_="note")
        for run in runs
        for (images, metric), why in sorted(run.missing.items())
    ]
    if not found and not missing:
        text = "No evaluation is recorded, neither beside the checkpoints nor in the journal."
        return section("evaluation", "Evaluation", tag("p", text, class_="none"))
    # One row per metric and protocol.
    best = [best_of(run.scores) for run in runs]
    head = tag("tr", *[tag("th", text, scope="col") for text in ("Metric", "Protocol")], *_run_heads(runs))
    rows = []
    for chart, score in sorted(found.items()):
        alone = len(runs) == 1
        cells = [
            cell for i, run in enumerate(runs) for cell in _score_cells(run, chart, best[i].get(chart), alone=alone)
        ]
        arrow = "↓ lower is better" if score.lower_is_better else "↑ higher is better"
        name = tag("th", score.name, tag("span", arrow, class_="aside"), scope="row")
        rows.append(tag("tr", name, tag("td", _protocol(score)), *cells))
    # A warning where rows look comparable and are not.
    by_name: dict[str, int] = {}
    for score in found.values():
        by_name[score.name] = by_name.get(score.name, 0) + 1
    several = sorted(name for name, count in by_name.items() if count > 1)
    warning = f"Measured under more than one protocol, not comparable between rows: {', '.join(several)}."
    return section(
        "evaluation",
        "Evaluation",
        tag("p", warning, class_="note") if several else None,
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="scroll") if rows else None,
        *missing,
        _sweeps(runs),
    )


def _sweeps(runs: list[Run]) -> Html | None:
    """Return the last drawing of each run's truncation sweeps; None without any."""
    shown = []
    for number, run in enumerate(runs):
        for axis in sorted({name.partition("-")[0] for name in run.figures}):
            path = run.figures[max(name for name in run.figures if name.startswith(f"{axis}-"))]
            try:
                source = data_uri("image/svg+xml", read_file(path, most_bytes=_MOST_FIGURE_BYTES))
            except (OSError, FrameworkError) as error:
                run.notes.append(f"The figure {path.name} cannot be shown: {error}.")
                continue
            caption = tag("figcaption", swatch(number), f"{run.name}: sweep of {axis}")
            shown.append(tag("figure", caption, tag("img", src=source, alt=f"sweep of {axis}", class_="grid")))
    return tag("div", *shown, class_="figures") if shown else None


def health(runs: list[Run]) -> Html:
    """Return the last state of each sentinel, and every change of state before it."""
    shown = [_health_of(i, run, several=len(runs) > 1) for i, run in enumerate(runs)]
    return section("health", "Health", *shown)


def curves(charts: list[dict[str, Any]]) -> Html:
    """Return the places of the charts, which the page's script draws."""
    if not charts:
        return section("curves", "Curves", tag("p", "No metric is in the journal yet.", class_="none"))
    options = [tag("option", text, value=value) for text, value in (("off", "0"), ("light", "0.6"), ("strong", "0.9"))]
    smoothing = tag("label", "Smoothing ", tag("select", *options, id="smoothing"), class_="controls")
    hint = tag(
        "p",
        "Over images seen. Point at a chart for its values; click a name to hide its line. A dotted vertical "
        "marks where a resumed launch took up the run, a red cross a value that was not a finite number.",
        class_="aside",
    )
    parts: list[Html] = []
    for group in dict.fromkeys(chart["group"] for chart in charts):
        places = [_chart_place(i, chart) for i, chart in enumerate(charts) if chart["group"] == group]
        parts += [tag("h3", group), tag("div", *places, class_="charts")]
    without = tag("noscript", tag("p", "The curves are drawn by this page's own script, which is switched off here."))
    return section("curves", "Curves", hint, smoothing, without, *parts)


def checkpoints(runs: list[Run]) -> Html:
    """Return the checkpoints that can still be sampled or resumed from."""
    parts: list[Html] = []
    for number, run in enumerate(runs):
        if len(runs) > 1:
            parts.append(tag("h3", swatch(number), run.name))
        parts.append(_checkpoint_table(run) if run.checkpoints else tag("p", "No checkpoint yet.", class_="none"))
        if run.deleted:
            gone = ", ".join(f"{images:,}" for images in run.deleted)
            parts.append(tag("p", f"Written and deleted again, as --keep-last and --keep-every-images say: {gone}.",
                             class_="aside"))  # fmt: skip
    return section("checkpoints", "Checkpoints", *parts)


def recipe(runs: list[Run]) -> Html:
    """Return the commands and every setting of the resolved recipes; differences between runs come first."""
    commands = [
        tag("p", swatch(i) if len(runs) > 1 else None, tag("code", run.tags["framework.command"]))
        for i, run in enumerate(runs)
        if "framework.command" in run.tags
    ]
    found = [dict(_texts(run.recipe)) for run in runs]
    paths = sorted({path for one in found for path in one})
    differing = [path for path in paths if len({one.get(path, _NONE) for one in found}) > 1]
    whole = _leaf_table(runs, found, paths, marked=set(differing))
    all_of_them = tag("details", tag("summary", f"All {len(paths)} settings"), whole)
    if len(runs) == 1:
        return section("recipe", "Recipe", *commands, all_of_them)
    if differing:
        table = _leaf_table(runs, found, differing, marked=set())
        top = join(tag("p", f"{len(differing)} of {len(paths)} settings differ."), table)
    else:
        top = tag("p", "No setting differs between these runs.")
    return section("recipe", "Recipe", *commands, top, all_of_them)


def _texts(document: Any) -> list[tuple[str, str]]:
    """Return (dotted path, text) of every value in a JSON document."""
    found = leaves(document, empty=True)
    return [(path, value if isinstance(value, str) else json.dumps(value)) for path, value in found]


def _run_heads(runs: list[Run]) -> list[Html]:
    if len(runs) == 1:
        return [tag("th", "Best", scope="col"), tag("th", "Last", scope="col")]
    return [tag("th", swatch(i), run.name, scope="col") for i, run in enumerate(runs)]


def _score_cells(run: Run, chart: str, best: tuple[int, Score] | None, *, alone: bool) -> list[Html]:
    last = max((images for images, scores in run.scores.items() if any(s.chart == chart for s in scores)), default=None)
    if best is None or last is None:
        return [tag("td", _NONE)] * (2 if alone else 1)
    value = next(score.value for score in run.scores[last] if score.chart == chart)
    where = tag("span", f"at {best[0]:,}", class_="aside")
    if alone:
        after = tag("span", f"at {last:,}", class_="aside")
        return [tag("td", tag("b", number(best[1].value)), where), tag("td", number(value), after)]
    ending = tag("span", f"last {number(value)} at {last:,}", class_="aside") if last != best[0] else None
    return [tag("td", tag("b", number(best[1].value)), tag("span", f"best, at {best[0]:,}", class_="aside"), ending)]


def _protocol(score: Score) -> Html:
    if score.protocol is None:
        return tag("span", "not recorded", class_="none")
    pairs = [tag("tr", tag("th", path, scope="row"), tag("td", text)) for path, text in _texts(score.protocol)]
    return tag("details", tag("summary", tag("code", score.protocol_id)), tag("table", *pairs, class_="leaves"))


def _health_of(number: int, run: Run, *, several: bool) -> Html:
    name = tag("h3", swatch(number), run.name) if several else None
    last: dict[str, Any] = {event.sentinel: event for event in run.health}
    if not last:
        counted = {
            key: series.points[max(series.points)]
            for key, series in sorted(run.series.items())
            if key.startswith("health/") and series.points
        }
        words = [f"{key.removeprefix('health/').replace('_', ' ')}: {value:g}" for key, value in counted.items()]
        text = f"No sentinel has reported. Counters: {', '.join(words)}." if words else "No sentinel has reported."
        return join(name, tag("p", text, class_="none"))
    ordered = sorted(last.values(), key=lambda event: (-HEALTH_STATES.index(event.state), event.sentinel))
    cards = [
        tag("li", tag("span", event.state, class_=f"state {event.state}"), tag("b", event.sentinel),
            tag("span", f"at {event.images:,}", class_="aside"), tag("p", event.reason) if event.reason else None,
            tag("p", f"Usual remedy: {event.remedy}", class_="aside") if event.remedy else None)
        for event in ordered
    ]  # fmt: skip
    changes = _changes(run)
    return join(name, tag("ul", *cards, class_="health"), changes)


def _changes(run: Run) -> Html | None:
    rows, before = [], dict[str, str]()
    for event in run.health:
        if event.state != before.get(event.sentinel, "ok"):
            state = tag("span", event.state, class_=f"state {event.state}")
            rows.append(tag("tr", tag("td", f"{event.images:,}", class_="n"), tag("td", event.sentinel),
                            tag("td", state), tag("td", event.reason)))  # fmt: skip
        before[event.sentinel] = event.state
    if not rows:
        return None
    head = tag("tr", *[tag("th", text, scope="col") for text in ("Images", "Sentinel", "State", "Reason")])
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return tag(
        "details",
        tag("summary", f"{len(rows)} change{'s' * (len(rows) > 1)} of state"),
        tag("div", table, class_="scroll"),
    )


def _chart_place(number: int, chart: dict[str, Any]) -> Html:
    how = tag("p", chart["how"], class_="how") if chart["how"] else None
    return tag("figure", tag("figcaption", tag("b", chart["title"])), how, class_="chart", data_chart=number)


def _checkpoint_table(run: Run) -> Html:
    best = best_of(run.scores)
    head = ("Images", "Size", "Processes", "Written (UTC)", "Best by", "sha256 of the manifest")
    rows = []
    for checkpoint in reversed(run.checkpoints):
        clock = checkpoint.images_seen
        names = sorted(score.name for images, score in best.values() if images == clock)
        rows.append(
            tag("tr", tag("td", f"{clock:,}", class_="n"), tag("td", format_bytes(checkpoint.num_bytes)),
                tag("td", str(checkpoint.world)), tag("td", utc(checkpoint.time_ms)),
                tag("td", ", ".join(names) or _NONE), tag("td", tag("code", checkpoint.sha256[:12])))
        )  # fmt: skip
    head_row = tag("tr", *[tag("th", text, scope="col") for text in head])
    return tag("div", tag("table", tag("thead", head_row), tag("tbody", *rows)), class_="scroll")


def _leaf_table(runs: list[Run], found: list[dict[str, str]], paths: list[str], *, marked: set[str]) -> Html:
    rows = [
        tag("tr", tag("th", path, scope="row"), *[tag("td", one.get(path, _NONE)) for one in found],
            class_="differs" if path in marked else None)
        for path in paths
    ]  # fmt: skip
    heads = [tag("th", swatch(i), run.name, scope="col") for i, run in enumerate(runs)] if len(runs) > 1 else []
    head = tag("thead", tag("tr", tag("td"), *heads)) if heads else None
    return tag("div", tag("table", head, tag("tbody", *rows), class_="leaves"), class_="scroll")


def number(value: float) -> str:
    """Return a number with four significant digits."""
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.3e}"
