"""Modes that a generator hits: objectives and remedies on a ring, on a grid, and on stacked pictures of 1,000 modes.

    python -m benchmarks.modes --runs /tmp/modes              # everything, about two hours of one core
    python -m benchmarks.modes --runs /tmp/modes --only ring  # a part; what is there already is not played again
    python -m benchmarks.modes --runs /tmp/modes --json       # the rows

One process of one thread for each game. On points three seeds are played, and 2,500 samples of the averaged generator
are looked at: a mode is hit that has ten of them within three standard deviations, and the divergence is that of the
good samples' histogram from the uniform one. On stacked pictures there is one seed and 25,600 samples.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.modes_games import NAMES, STACKED, on_points, on_stacked
from benchmarks.report import command_line, show
from framework import GridOfGaussians, Recipe, RingOfGaussians
from framework.evaluation.metrics.base import Metric, Settings
from framework.evaluation.models import EvaluationModels
from framework.evaluation.offline import Sampling, evaluate_checkpoint
from framework.runtime.session import Session
from framework.tracking.records import JOURNAL_NAME, read_journal
from framework.train.config import RunConfig
from framework.train.trainer import run

ROOT = Path(__file__).parents[1]
FASHION = ROOT / "recipes" / "data" / "fashion_mnist"
SEEDS = (0, 1, 2)
PROBLEMS: dict[str, RingOfGaussians | GridOfGaussians] = {"ring": RingOfGaussians(), "grid": GridOfGaussians()}
ALONE = Session(rank=0, world=1, local_rank=0, device=torch.device("cpu"))
Game = tuple[str, str, int]
"""A problem, a variant of it, and a seed."""


def games(only: str) -> list[Game]:
    """All games whose `problem/variant` contains a text."""
    found = [(problem, name, seed) for problem in PROBLEMS for seed in SEEDS for name in NAMES]
    found += [("stacked", name, 0) for name in STACKED]
    return [one for one in found if only in f"{one[0]}/{one[1]}"]


def recipe_of(game: Game) -> Recipe:
    """The recipe of a game."""
    problem, name, seed = game
    if problem == "stacked":
        return on_stacked(name, seed=seed, folder=FASHION)
    return on_points(PROBLEMS[problem], name, seed=seed)


def place(game: Game, folder: Path) -> Path:
    """The folder of a game's run."""
    problem, name, seed = game
    words = "".join(letter if letter.isalnum() else "-" for letter in name)
    return folder / f"{problem}-{words}-{seed}"


def play(game: Game, folder: Path) -> None:
    """Train, measure, and leave a row beside the run."""
    torch.set_num_threads(1)
    recipe, out = recipe_of(game), place(game, folder)
    begun = time.process_time()
    config = RunConfig(
        out=out,
        tracking="none",
        workers=0,
        log_every_images=recipe.images // 50,
        sample_every_images=0,
        save_every_images=recipe.images,
    )
    run(recipe, config, session=ALONE, data=str(FASHION) if game[0] == "stacked" else "")
    seconds = time.process_time() - begun
    checkpoint = max((out / "checkpoints").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    records, told = evaluate_checkpoint(
        str(checkpoint),
        None,
        metrics=[metric for metric in recipe.metrics if isinstance(metric, Metric)],
        models=EvaluationModels(),
        sampling=Sampling(),
        settings=Settings(),
        session=ALONE,
        record=False,
    )
    values = {record.name: record.value for record in records if record.value is not None}
    row = {
        **dict(zip(("problem", "game", "seed"), game, strict=True)),
        "values": values,
        "said": told,
        "cpu_seconds": round(seconds, 1),
        "images": recipe.images,
        "alerts": alerts(out),
    }
    (out / "row.json").write_text(json.dumps(row, indent=1))


def alerts(out: Path) -> dict[str, str]:
    """The worst state of every sentinel that left its bounds."""
    worst: dict[str, str] = {}
    for _, record in read_journal(out / JOURNAL_NAME):
        if record["kind"] == "health" and record["state"] != "ok" and worst.get(record["sentinel"]) != "failing":
            worst[record["sentinel"]] = record["state"]
    return worst


def row(game: Game, folder: Path) -> dict[str, Any]:
    """The row of a game, which is played unless it has been."""
    path = place(game, folder) / "row.json"
    if not path.exists():
        command = [sys.executable, "-m", "benchmarks.modes", "--runs", str(folder), "--play", json.dumps(game)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One table a problem: a line for each game, over its seeds."""
    made = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        mine = [row for row in rows if row["problem"] == problem]
        table = Table("game", "modes hit", "good", "KL", "CPU s", "sentinels", title=problem)
        for name in dict.fromkeys(row["game"] for row in mine):
            some = [row for row in mine if row["game"] == name]
            told = sorted({f"{sentinel} {state}" for one in some for sentinel, state in one["alerts"].items()})
            seconds = f"{statistics.mean(one['cpu_seconds'] for one in some):.0f}"
            hits = _over(some, "modes_hit", "stacked_modes", digits=0)
            table.add_row(
                name, hits, _over(some, "good_share"), _over(some, "modes_kl", "stacked_kl"), seconds, ", ".join(told)
            )
        made.append(table)
    return made


def _over(rows: list[dict[str, Any]], *names: str, digits: int = 2) -> str:
    """The values of a metric over the seeds; a dash where one has none."""
    values = [next((row["values"][name] for name in names if name in row["values"]), None) for row in rows]
    return " ".join("-" if value is None else f"{value:.{digits}f}" for value in values)


def main() -> None:
    """Play what is missing, and print."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--only", default="", help="games whose problem/name contains this")
    parser.add_argument("--play", help="play one game, as JSON, in this process")
    arguments = parser.parse_args()
    if arguments.play:
        problem, name, seed = json.loads(arguments.play)
        play((problem, name, seed), arguments.runs.resolve())
        return
    rows = [row(game, arguments.runs.resolve()) for game in games(arguments.only)]
    show(rows, *tables(rows), as_json=arguments.json, width=150)


if __name__ == "__main__":
    main()
