"""What a run's journal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from framework.tracking.records import JOURNAL_NAME, read_journal


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """All records of a kind, in order."""
    return [record for _, record in read_journal(run / JOURNAL_NAME) if record["kind"] == kind]


def points(run: Path, name: str) -> list[tuple[int, float]]:
    """(images, value) of a metric, in order."""
    return [(r["images"], r["values"][name]) for r in records(run, "metrics") if name in r["values"]]


def science(run: Path) -> dict[str, list[tuple[int, float]]]:
    """(images, value) of every metric but those of the machine, by name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records(run, "metrics"):
        for name, value in record["values"].items():
            if not name.startswith(("perf/", "system/", "health/failed_saves")):
                found.setdefault(name, []).append((record["images"], value))
    return found


def evaluations(run: Path) -> list[tuple[int, dict[str, Any]]]:
    """(images, records of metrics by name) of every evaluation, in order."""
    return [(record["images"], record["records"]) for record in records(run, "evaluation")]
