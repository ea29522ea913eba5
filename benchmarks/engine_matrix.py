"""Every engine against one process, and every engine's checkpoint continued by every other: two tables of differences.

    python -m benchmarks.engine_matrix            # tables; a few minutes on two cores
    python -m benchmarks.engine_matrix --json     # {"resume": [...], "parity": [...]}

Real gloo process groups on this machine; small games with everything on: spectral norm, conditional batch norm over all
processes, lazy R1, clipping, a schedule and averaging; StyleGAN2 with R1, path length, style mixing, noise and ADA.
Differences are the largest absolute ones over losses, logits, gradient norms, and images of both generators.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from framework.checkpoint import Checkpoint, Retention, Writer
from framework.recipe import Recipe
from tests.helpers.families import FAMILIES
from tests.helpers.play import Played, outputs, smooth_recipe, start, steps
from tests.helpers.spawn import run_ranks

KINDS = (("ddp", 1), ("ddp", 2), ("zero1", 2), ("zero2", 2), ("zero3", 2), ("fsdp2", 2))
"""Engine and number of processes."""
BEFORE, AFTER = 5, 10
"""Steps before a checkpoint is written, and after it is read."""
LIMIT = 1e-5


def games() -> dict[str, Recipe]:
    """What the engines are compared on. Players without kinks, because those amplify rounding (decisions/006)."""
    return {"sagan": smooth_recipe(), "stylegan2": FAMILIES["StyleGAN2 with path length, ADA"]}


def play(engine: str, count: int, only: str | None = None) -> dict[str, Tensor]:
    """Scores and outputs of every game, or of one, after `count` steps."""
    results: dict[str, Tensor] = {}
    for name, recipe in games().items():
        if only not in (None, name):
            continue
        played = start(recipe, engine=engine)
        results |= {f"{name}/{key}": value for key, value in (steps(played, count=count) | outputs(played)).items()}
        _close(played)
    return results


def write(engine: str, folder: str) -> dict[str, Tensor]:
    """Play `BEFORE` steps and save a checkpoint under `folder`."""
    played = start(games()["sagan"], engine=engine)
    steps(played, count=BEFORE)
    share, state = played.share, played.state
    with Writer(
        Path(folder), rank=share.rank, world=share.world, token="matrix", retention=Retention(last=1)
    ) as writer:
        pieces = state.pieces(own=True, buffers=share.rank == 0)
        writer.save(BEFORE, pieces, documents={}, record={"players": state.record()})
    _close(played)
    return {}


def read(engine: str, folders: dict[str, str]) -> dict[str, Tensor]:
    """Continue every checkpoint for `AFTER` steps."""
    recipe = games()["sagan"]
    results: dict[str, Tensor] = {}
    for written, folder in folders.items():
        played = start(recipe, engine=engine)
        played.state.restore(Checkpoint.open(Path(folder) / str(BEFORE)))
        begin = BEFORE * played.game.step_images
        found = steps(played, begin=begin, count=AFTER) | outputs(played)
        results |= {f"{written}/{key}": value for key, value in found.items()}
        _close(played)
    return results


def _close(played: Played) -> None:
    for engine in played.state.players.values():
        engine.close()


def difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    """The largest absolute difference."""
    assert expected.keys() == found.keys()
    return max(float((expected[k].double() - found[k].double()).abs().max()) for k in expected)


def part(results: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in results.items() if key.startswith(prefix)}


def parity(*, count: int = 10) -> list[dict[str, Any]]:
    """One row per engine and game."""
    expected, rows = run_ranks(play, 1, "ddp", count)[0], []
    for engine, world in KINDS[1:]:
        found = run_ranks(play, world, engine, count)[0]
        for game in games():
            largest = difference(part(expected, f"{game}/"), part(found, f"{game}/"))
            status = "ok" if largest <= LIMIT else "differs"
            rows.append(
                {"engine": engine, "world": world, "game": game, "steps": count, "status": status}
                | {"max_difference": largest}
            )
    return rows


def resume() -> list[dict[str, Any]]:
    """One row per writing and reading engine: the last `AFTER` steps against the uninterrupted run of one process."""
    expected, rows = tail(part(run_ranks(play, 1, "ddp", BEFORE + AFTER, "sagan")[0], "sagan/")), []
    with tempfile.TemporaryDirectory() as scratch:
        folders = {f"{engine}x{world}": str(Path(scratch, f"{engine}x{world}")) for engine, world in KINDS}
        for engine, world in KINDS:
            run_ranks(write, world, engine, folders[f"{engine}x{world}"])
        for engine, world in KINDS:
            results = run_ranks(read, world, engine, folders)[0]
            for written in folders:
                found = part(results, f"{written}/")
                rows.append(
                    {"written": written, "read": f"{engine}x{world}", "max_difference": difference(expected, found)}
                )
    return rows


def tail(results: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of an uninterrupted run, what a resumed one can be compared with: the scores of the last `AFTER` steps."""

    def rows(values: Tensor) -> int:  # lazy scores are noted on some of the steps only
        return AFTER if len(values) == BEFORE + AFTER else len(values) * AFTER // (BEFORE + AFTER)

    return {k: v[-rows(v) :] if k.startswith("scores/") else v for k, v in results.items()}


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """What DeepSpeed prints in the processes started here goes to stderr, so that stdout holds the report alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=10, help="of the comparison with one process")
    arguments = parser.parse_args()
    with _quiet_stdout():
        report = {"parity": parity(count=arguments.steps), "resume": resume()}
    if arguments.json:
        print(json.dumps(report, indent=1))
        return
    console = Console(width=120)
    table = Table("engine", "game", "steps", "largest difference", title="2 processes against 1")
    for row in report["parity"]:
        table.add_row(row["engine"], row["game"], str(row["steps"]), f"{row['max_difference']:.1e} {row['status']}")
    console.print(table)
    readers = list(dict.fromkeys(row["read"] for row in report["resume"]))
    table = Table("written by \\ read by", *readers, title=f"{BEFORE} steps, checkpoint, {AFTER} steps")
    for written in dict.fromkeys(row["written"] for row in report["resume"]):
        found = {row["read"]: row["max_difference"] for row in report["resume"] if row["written"] == written}
        table.add_row(written, *(f"{found[reader]:.1e}" for reader in readers))
    console.print(table)


if __name__ == "__main__":
    main()
