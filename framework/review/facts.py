"""The head of the page, with the facts about each run, side by side, and its launches."""

from __future__ import annotations

import time

from framework.media.markup import Html, join, tag
from framework.review.run import Run
from framework.utils.quantities import format_duration

_SHORT = 12
_UNKNOWN = "–"
# Clocks and names always differ, so they are not marked.
_WORTH_A_MARK = ("Engine", "Processes", "Precision", "Git revision", "Data")


def header(runs: list[Run]) -> Html:
    """Return the title, the paper, and the facts as a list (one run) or a table (several)."""
    papers = dict.fromkeys(str(run.recipe["paper"]) for run in runs if run.recipe.get("paper"))
    return tag(
        "header",
        tag("h1", title(runs)),
        *[tag("p", paper, class_="paper") for paper in papers],
        _one(runs[0]) if len(runs) == 1 else _several(runs),
    )


def title(runs: list[Run]) -> str:
    """Return the page's title, `recipe` or `recipe: run, run`."""
    recipes = list(dict.fromkeys(str(run.recipe.get("name") or run.experiment) for run in runs))
    names = ", ".join(run.name for run in runs)
    head = recipes[0] if len(recipes) == 1 and recipes[0] else ""
    return names if not head or head == names else f"{head}: {names}"


def state(run: Run) -> Html:
    """Return a coloured word for the run's state."""
    text = "state unknown" if run.state == "unknown" else run.state
    return tag("span", text, class_=f"state {run.state}")


def swatch(number: int) -> Html:
    """Return a patch of the colour in which a run's lines are drawn."""
    return tag("span", class_=f"swatch c{number}")


def utc(time_ms: int) -> str:
    """Return a time, given in milliseconds since 1970, as `2026-11-23 01:20` in UTC."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(time_ms / 1000))


def facts(run: Run) -> list[tuple[str, str | Html]]:
    """Return the facts about a run as (label, value); every run has the same labels."""
    total = f" of {run.total_images:,}" if run.total_images else ""
    data = next((checkpoint.data for checkpoint in reversed(run.checkpoints) if checkpoint.data), {})
    count = f"{data['count']:,} images, " if isinstance(data.get("count"), int) else ""
    fingerprint = run.tags.get("framework.data_fingerprint", str(data.get("fingerprint", "")))
    return [
        ("State", state(run)),
        ("Images seen", f"{run.last_images:,}{total}"),
        ("Time in training", format_duration(run.active_seconds) if run.launches else _UNKNOWN),
        ("Started (UTC)", utc(run.launches[0].started_ms) if run.launches else _UNKNOWN),
        ("Launches", lineage(run)),
        ("Engine", latest(run, "engine")),
        ("Processes", world(run)),
        ("Precision", latest(run, "precision")),
        ("Git revision", _revision(run)),
        ("Data", _data(f"{count}{fingerprint[:_SHORT]}" if fingerprint else _UNKNOWN, run)),
    ]


def latest(run: Run, parameter: str) -> str:
    """Return the latest value of a launch parameter, which a resume may have changed."""
    return run.tags.get(f"framework.changed.{parameter}") or run.params.get(parameter, _UNKNOWN)


def world(run: Run) -> str:
    """Return the number of processes according to the run, or else to its newest checkpoint."""
    recorded = run.tags.get("framework.world_size")
    return recorded or (str(run.checkpoints[-1].world) if run.checkpoints else _UNKNOWN)


def lineage(run: Run) -> Html:
    """Return a list of the launches: where each one continued the run, and how it ended."""
    if len(run.launches) < 2:
        return join(str(len(run.launches) or _UNKNOWN))
    words = {"finished": "to the end", "stopped": "stopped", "failed": "failed", "": "killed", "unknown": "ended"}
    items = []
    for launch in run.launches:
        running = run.state == "running" and launch is run.launches[-1]
        begun = f"from {launch.from_images:,}" if launch.from_images else "from the start"
        items.append(
            tag("li", f"{begun}, {'running' if running else words[launch.state]}", title=utc(launch.started_ms))
        )
    return tag("ol", *items, class_="lineage")


def _revision(run: Run) -> str:
    commit, _, dirty = run.tags.get("framework.git_commit", "").partition("-")
    if not commit or commit == "none":
        return _UNKNOWN
    return f"{commit[:_SHORT]}{', with local changes' if dirty else ''}"


def _data(text: str, run: Run) -> Html:
    location = run.tags.get("framework.data_location")
    return join(text, tag("span", location, class_="aside") if location else None)


def _one(run: Run) -> Html:
    pairs = [
        tag("div", tag("dt", label), tag("dd", value), class_="wide" if label == "Data" else None)
        for label, value in facts(run)
    ]
    return tag("dl", *pairs, class_="facts")


def _several(runs: list[Run]) -> Html:
    columns = [dict(facts(run)) for run in runs]
    head = tag("tr", tag("td"), *[tag("th", swatch(i), run.name, scope="col") for i, run in enumerate(runs)])
    rows = []
    for label in columns[0]:
        values = [column[label] for column in columns]
        differs = label in _WORTH_A_MARK and len(set(values)) > 1
        cells = [tag("td", value) for value in values]
        rows.append(tag("tr", tag("th", label, scope="row"), *cells, class_="differs" if differs else None))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="compare"), class_="scroll")
