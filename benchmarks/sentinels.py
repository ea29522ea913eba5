"""False alarms and real ones: the sentinels on healthy runs of the quick start, and on runs made to collapse.

    python -m benchmarks.sentinels --runs /tmp/sentinels             # 5 seeds and the provoked failures: half an hour
    python -m benchmarks.sentinels --runs /tmp/sentinels --json      # the same runs again are only read

One process each. A row tells the range of every signal that is compared with a threshold, and when each sentinel first
left its bounds (images, of how many). Signals are those that the runs wrote down; they are judged here, by the present
thresholds, which do not change a run that only warns.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.report import command_line, show
from framework.sentinels import SENTINELS, Health, SentinelStates
from framework.tracking.records import JOURNAL_NAME, read_journal
from tests.helpers.collapse import FROZEN_CRITIC, STRONG_CRITIC

ROOT = Path(__file__).parents[1]
QUICK_START = ROOT / "recipes" / "sagan_fashion.py"
POISONED = ROOT / "tests" / "recipes" / "poisoned.py"
SEEDS, UNSEEN_SEEDS = range(5), (5, 6)
"""The thresholds of diversity were chosen when the former had been seen."""
TICKS = ("--tracking", "none", "--sample-every-images", "1M", "--save-every-images", "6k", "--log-every-images")

LATE, LATE_FOLLOWS = "mode collapse after 18,000 images in order", "healthy, seed 0"
RUNS: dict[str, tuple[Path, tuple[str, ...]]] = {
    **{f"healthy, seed {seed}": (QUICK_START, (*TICKS, "500", "--seed", str(seed))) for seed in SEEDS},
    **{f"healthy, unseen seed {s}": (QUICK_START, (*TICKS, "500", "--seed", str(s))) for s in UNSEEN_SEEDS},
    "discriminator too strong": (QUICK_START, (*TICKS, "500", *STRONG_CRITIC, "--images", "6k")),
    "mode collapse": (QUICK_START, (*TICKS, "500", *FROZEN_CRITIC, "--images", "12k")),
    LATE: (QUICK_START, (*TICKS, "500", *FROZEN_CRITIC, "--images", "24k", "--allow-change")),
    "NaN in a weight after 480 images": (POISONED, (*TICKS, "64", "--images", "640", "--most-skipped-steps", "1000")),
}


def play(name: str, folder: Path) -> Path:
    """Bring a run to its end, if it is not there yet."""
    recipe, flags = RUNS[name]
    out = place(name, folder)
    if name == LATE and not out.exists():
        shutil.copytree(play(LATE_FOLLOWS, folder), out)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FRAMEWORK_TEST_POISONED_AT": "61"}
    command = [sys.executable, str(recipe), "--out", str(out), *flags]
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    return out


def place(name: str, folder: Path) -> Path:
    """The folder of a run."""
    return folder / name.replace(" ", "-").replace(",", "")


def row(name: str, out: Path) -> dict[str, Any]:
    """What the sentinels make of a run."""
    ticks: dict[int, dict[str, float]] = {}
    for _, record in read_journal(out / JOURNAL_NAME):
        if record["kind"] == "metrics":
            told = {key.removeprefix("health/"): value for key, value in record["values"].items()}
            ticks.setdefault(record["images"], {}).update(
                {s.signal: told[s.signal] for s in SENTINELS if s.signal in told}
            )
    recipe = json.loads((out / "recipe.json").read_text())
    watch = SentinelStates(SENTINELS, total_images=recipe["images"], step_images=recipe["batch_size"])
    troubles: dict[str, dict[str, int]] = {}
    for images, values in ticks.items():
        for alert in watch.observe(images, values):
            if alert.health is not Health.ok:
                troubles.setdefault(alert.sentinel.signal, {}).setdefault(alert.health.name, images)
    signals = {signal for values in ticks.values() for signal in values}
    seen = {signal: [values[signal] for values in ticks.values() if signal in values] for signal in sorted(signals)}
    ranges = {signal: [min(values), max(values)] for signal, values in seen.items()}
    return {"run": name, "images": max(ticks), "ranges": ranges, "troubles": troubles}


def table(rows: list[dict[str, Any]]) -> Table:
    """One row per run."""
    shown = Table("run", "images", "sentinels that left their bounds, at images", title="Sentinels")
    for one in rows:
        told = [
            f"{sentinel}: " + ", ".join(f"{state} at {images:,}" for state, images in states.items())
            for sentinel, states in one["troubles"].items()
        ]
        shown.add_row(one["run"], f"{one['images']:,}", "\n".join(told) or "none")
    return shown


def main() -> None:
    """Play and print."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--only", help="runs whose name contains this")
    arguments = parser.parse_args()
    names = [name for name in RUNS if (arguments.only or "") in name]
    rows = [row(name, play(name, arguments.runs)) for name in names]
    show(rows, table(rows), as_json=arguments.json, width=150)


if __name__ == "__main__":
    main()
