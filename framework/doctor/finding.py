"""The findings of an examination, one per question: ok, warn or fail, and advice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

Level = Literal["ok", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("ok", "warn", "fail")
_LOG_WIDTH = 120
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to one question.

    Attributes:
        area: the subject, such as "memory".
        level: `warn` if training works, but slower, or less safely, or not everywhere; `fail` if it will not work.
        value: the facts that were found.
        advice: the way to mend it; empty if nothing is wrong.
    """

    area: str
    level: Level
    value: str
    advice: str = ""

    def __post_init__(self) -> None:
        assert self.advice or self.level == "ok", f"{self.area}: a {self.level} without advice"


def ok(area: str, value: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(area=area, level="ok", value=value)


def warn(area: str, value: str, advice: str) -> Finding:
    """Return a finding that training works, but not as well as it could."""
    return Finding(area=area, level="warn", value=value, advice=advice)


def fail(area: str, value: str, advice: str) -> Finding:
    """Return a finding that training will not work."""
    return Finding(area=area, level="fail", value=value, advice=advice)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the most serious level; ok if there are no findings."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")


def as_json(findings: list[Finding]) -> str:
    """Return the findings as JSON, `{"status": ..., "findings": [...]}`."""
    return json.dumps({"status": worst(findings), "findings": [asdict(finding) for finding in findings]}, indent=1)


def show(findings: list[Finding], *, title: str) -> None:
    """Print the findings as a table, each with its advice below."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        text = Text(finding.value)
        if finding.advice:
            text.append(f"\n{finding.advice}", style="italic")
        table.add_row(Text(finding.level, style=_COLOURS[finding.level]), Text(finding.area), text)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_LOG_WIDTH)
    console.print(table)
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    verdict = {"ok": "ready", "warn": "ready, with reservations", "fail": "not ready"}[worst(findings)]
    console.print(f"{verdict}: {counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed")
