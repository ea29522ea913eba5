"""Every engine against one process, and every engine's checkpoint continued by every other: two tables of differences.

    python -m benchmarks.engine_matrix                   # tables; some minutes on two cores
    python -m benchmarks.engine_matrix --json            # {"parity": [...], "resume": [...], "worlds": [...]}
    python -m benchmarks.engine_matrix --steps 100       # the comparison with one process alone, over 100 steps
    python -m benchmarks.engine_matrix --capabilities    # every penalty with every normalisation instead; 15 min

Real gloo process groups on this machine; small games with everything on: spectral norm, conditional batch norm over all
processes, lazy R1, clipping, a schedule and averaging, the same accumulated over 2 micro-batches; StyleGAN2 with R1,
path length, style mixing, noise and ADA. Differences are the largest absolute ones over losses, logits, gradient norms,
and images of both generators.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from benchmarks.report import command_line, quiet_stdout, show
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
TIMEOUT_SECONDS = 900.0
"""Of one start of processes; a busy machine takes a minute to import torch in several."""
LEGS = {4: 4, 3: 4, 1: 4}
"""Processes and steps of a run that loses processes; 12 images are divisible by 4 and by 3."""
RELAYS = (*((engine, engine, "ddp") for engine in ("zero1", "zero2", "zero3", "fsdp2")), ("zero3", "fsdp2", "ddp"))
"""Engines of its legs; on one process there is nothing to shard."""


def games() -> dict[str, Recipe]:
    """What the engines are compared on. Players without kinks, because those amplify rounding (decisions/006)."""
    return {
        "sagan": smooth_recipe(),
        "sagan accumulated": smooth_recipe(),
        "stylegan2": FAMILIES["StyleGAN2 with path length, ADA"],
    }


def micro_batches(game: str) -> int:
    """Micro-batches of a turn."""
    return 2 if game.endswith("accumulated") else 1


def play(engine: str, count: int, only: str | None = None) -> dict[str, Tensor]:
    """Scores and outputs of every game, or of one, after `count` steps."""
    results: dict[str, Tensor] = {}
    for name, recipe in games().items():
        if only not in (None, name):
            continue
        played = start(recipe, engine=engine, micro_batches=micro_batches(name))
        results |= {f"{name}/{key}": value for key, value in (steps(played, count=count) | outputs(played)).items()}
        _close(played)
    return results


def write(engine: str, folder: str) -> dict[str, Tensor]:
    """Play `BEFORE` steps and save a checkpoint under `folder`."""
    played = start(games()["sagan"], engine=engine)
    steps(played, count=BEFORE)
    _save(played, folder, BEFORE)
    _close(played)
    return {}


def _save(played: Played, folder: str, step: int) -> None:
    share, state = played.partition, played.state
    with Writer(
        Path(folder), rank=share.rank, world=share.world, token="matrix", retention=Retention(last=1)
    ) as writer:
        slices = state.slices(own=True, buffers=share.rank == 0)
        writer.save(step, slices, documents={}, record={"players": state.record()})


def relay(engine: str, folder: str, begin: int, count: int) -> dict[str, Tensor]:
    """Continue the checkpoint after `begin` steps, if any, for `count` steps, and save another one."""
    played = start(games()["sagan"], engine=engine)
    if begin > 0:
        played.state.restore(Checkpoint.open(Path(folder) / str(begin)))
    results = steps(played, begin=begin * played.game.images_of_step(0), count=count) | outputs(played)
    _save(played, folder, begin + count)
    _close(played)
    return results


def worlds(relays: tuple[tuple[str, ...], ...] = RELAYS) -> list[dict[str, Any]]:
    """One row per relay of engines on 4, 3 and 1 processes, each leg against one process all the way."""
    straight = part(
        run_ranks(play, 1, "ddp", sum(LEGS.values()), "sagan", timeout_seconds=TIMEOUT_SECONDS)[0], "sagan/"
    )
    rows = []
    for engines in relays:
        largest, begin = 0.0, 0
        with tempfile.TemporaryDirectory() as folder:
            for engine, (world, count) in zip(engines, LEGS.items(), strict=True):
                found = run_ranks(relay, world, engine, folder, begin, count, timeout_seconds=TIMEOUT_SECONDS)[0]
                expected = {k: _rows(v, begin, count) for k, v in straight.items() if k.startswith("scores/")}
                largest = max(largest, difference(expected, {k: found[k] for k in expected}))
                begin += count
        finals = {k: v for k, v in straight.items() if k.startswith("outputs/")}
        largest = max(largest, difference(finals, {k: found[k] for k in finals}))
        row = {"engines": list(engines), "worlds": list(LEGS), "steps": list(LEGS.values()), "max_difference": largest}
        rows.append(row | {"status": "ok" if largest <= LIMIT else "differs"})
    return rows


def _rows(values: Tensor, begin: int, count: int) -> Tensor:
    """The scores of some of the steps; lazy ones are noted on every second step."""
    total = sum(LEGS.values())
    if len(values) == total:
        return values[begin : begin + count]
    assert len(values) * 2 == total
    return values[begin // 2 : (begin + count) // 2]


def read(engine: str, folders: dict[str, str]) -> dict[str, Tensor]:
    """Continue every checkpoint for `AFTER` steps."""
    recipe = games()["sagan"]
    results: dict[str, Tensor] = {}
    for written, folder in folders.items():
        played = start(recipe, engine=engine)
        played.state.restore(Checkpoint.open(Path(folder) / str(BEFORE)))
        begin = BEFORE * played.game.images_of_step(0)
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
    limit = TIMEOUT_SECONDS + 10.0 * count
    expected, rows = run_ranks(play, 1, "ddp", count, timeout_seconds=limit)[0], []
    for engine, world in KINDS[1:]:
        found = run_ranks(play, world, engine, count, timeout_seconds=limit)[0]
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
    expected, rows = (
        tail(part(run_ranks(play, 1, "ddp", BEFORE + AFTER, "sagan", timeout_seconds=TIMEOUT_SECONDS)[0], "sagan/")),
        [],
    )
    with tempfile.TemporaryDirectory() as scratch:
        folders = {f"{engine}x{world}": str(Path(scratch, f"{engine}x{world}")) for engine, world in KINDS}
        for engine, world in KINDS:
            run_ranks(write, world, engine, folders[f"{engine}x{world}"], timeout_seconds=TIMEOUT_SECONDS)
        for engine, world in KINDS:
            results = run_ranks(read, world, engine, folders, timeout_seconds=TIMEOUT_SECONDS)[0]
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


def main() -> None:
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, help="of the comparison with one process, and nothing else")
    parser.add_argument("--capabilities", action="store_true", help="every penalty and normalisation, and nothing else")
    arguments = parser.parse_args()
    with quiet_stdout():
        report = _report(arguments)
    show(report, *_tables(report), as_json=arguments.json, width=150)


def _report(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.capabilities:
        from benchmarks.engine_capabilities import everything, rows

        return {"capabilities": rows(everything())}
    if arguments.steps is not None:
        return {"parity": parity(count=arguments.steps)}
    return {"parity": parity(), "resume": resume(), "worlds": worlds()}


def _tables(report: dict[str, Any]) -> Iterator[Table]:
    if "capabilities" in report:
        from benchmarks.engine_capabilities import tables

        yield from tables(report["capabilities"])
    if "parity" in report:
        table = Table("engine", "game", "steps", "largest difference", title="2 processes against 1")
        for row in report["parity"]:
            table.add_row(row["engine"], row["game"], str(row["steps"]), f"{row['max_difference']:.1e} {row['status']}")
        yield table
    if "resume" in report:
        readers = list(dict.fromkeys(row["read"] for row in report["resume"]))
        table = Table("written by \\ read by", *readers, title=f"{BEFORE} steps, checkpoint, {AFTER} steps")
        for written in dict.fromkeys(row["written"] for row in report["resume"]):
            found = {row["read"]: row["max_difference"] for row in report["resume"] if row["written"] == written}
            table.add_row(written, *(f"{found[reader]:.1e}" for reader in readers))
        yield table
    if "worlds" in report:
        table = Table("engines", "largest difference", title="4 processes, then 3, then 1, against 1")
        for row in report["worlds"]:
            table.add_row(", ".join(row["engines"]), f"{row['max_difference']:.1e} {row['status']}")
        yield table


if __name__ == "__main__":
    main()
