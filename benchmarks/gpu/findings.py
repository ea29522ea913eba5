"""What an item finds: a file per item, one JSON line per finding, so that a session that is killed loses nothing."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

Finding = dict[str, Any]
"""`item`, `at_seconds` (since the item began) and the item's own fields. `failed`: what went wrong; `ok`: whether
numbers are within their bounds; `skipped`: why a part was not done; `refused`: what the code under test does not do."""

SUFFIX = ".jsonl"


class Findings:
    """Writes the findings of one item; those of an earlier run of the item in the same folder are replaced.

    Attributes:
        failures: findings so far that have `failed` or a false `ok`.
    """

    def __init__(self, folder: Path, *, item: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{item}{SUFFIX}"
        self._path.write_text("")
        self._item, self._began = item, time.monotonic()
        self.failures = 0

    def add(self, **fields: Any) -> None:
        """Append a finding, in the file when this returns."""
        finding = {"item": self._item, "at_seconds": round(time.monotonic() - self._began, 2), **fields}
        self.failures += is_failure(finding)
        with self._path.open("a") as file:
            file.write(json.dumps(_plain(finding), allow_nan=False) + "\n")


def read_findings(folder: Path, *, item: str) -> list[Finding]:
    """The findings of an item, without a last line that was cut off; empty if it never began."""
    path = folder / f"{item}{SUFFIX}"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _plain(value: Any) -> Any:
    """Numbers that JSON does not know (nan, inf) as text."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def is_failure(finding: Finding) -> bool:
    """Something raised, or a number lies outside its bound."""
    return "failed" in finding or finding.get("ok") is False
