"""What each engine sends per turn and process, in bytes, against the least that its scheme needs.

    python -m benchmarks.engine_traffic            # SAGAN and StyleGAN2, 2 processes; some minutes
    python -m benchmarks.engine_traffic --json --world 4

Every collective is counted where it reaches torch's process groups (`tests/helpers/traffic.py`), in bytes sent per
process by the ring algorithms on N processes: all-reduce 2 S (N - 1) / N; reduce-scatter, all-gather, broadcast and
reduce S (N - 1) / N, with S the bytes of the whole tensor. `statistics` are the sums that batch norms, penalties and
augmentation ask for; they are the same on every engine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.engine_memory import ENGINES, large, num_parameters
from benchmarks.report import command_line, quiet_stdout, show
from framework import R1, Alternating, Hinge, Network, Recipe
from framework.networks import sagan, stylegan2
from tests.helpers.play import small_recipe, start, synthetic
from tests.helpers.spawn import run_ranks
from tests.helpers.traffic import REDUCING, Traffic, watched

SIDES = ("discriminator", "generator")


def games() -> dict[str, Recipe]:
    """SAGAN with spectral norm and R1 in the loss of every second turn, StyleGAN2 with lazy steps; 1.4 and 4.4 M."""
    sagan_recipe = small_recipe(batch_size=4)
    stylegan2_recipe = large()
    small = {"channel_base": 2048, "channel_max": 128}
    return {
        "sagan": replace(
            sagan_recipe,
            generator=replace(sagan_recipe.generator, network=_wide(sagan.Generator)),
            discriminator=replace(sagan_recipe.discriminator, network=_wide(sagan.Discriminator)),
            game=Alternating(loss=Hinge(), discriminator_terms=(R1(weight=1.0, every=2),)),
        ),
        "stylegan2": replace(
            stylegan2_recipe,
            generator=replace(stylegan2_recipe.generator, network=Network(stylegan2.Generator, **small)),
            discriminator=replace(stylegan2_recipe.discriminator, network=Network(stylegan2.Discriminator, **small)),
        ),
    }


def _wide(module: Any) -> Network:
    return Network(module, width=32, attention_at=16, **({"z_dim": 64} if module is sagan.Generator else {}))


def count(engine: str, game: str, recipe: Recipe | None = None) -> dict[str, Tensor]:
    """Bytes on a ring, payload and calls by turn, purpose and kind: a step with penalties and one without."""
    played = start(recipe or games()[game], engine=engine)
    batches = synthetic(played.recipe, played.partition)
    images, step_images = 0, played.game.images_of_step(0)
    results: dict[str, Tensor] = {}
    # A first step without counting: shapes and orders that engines learn once.
    for index in range(3):
        with watched(played.game) as traffic:
            _, finite = played.game.step(batches, images_seen=images)
        assert finite
        images += step_images
        if index > 0:
            due = "with penalties" if index % 2 == 0 else "plain"
            results |= {f"{due}/{key}": value for key, value in _summed(traffic, played.partition.world).items()}
    for side, player in played.state.players.items():
        results[f"size/{side}"] = torch.tensor(4 * num_parameters(player))
        player.close()
    return results


def _summed(traffic: Traffic, world: int) -> dict[str, Tensor]:
    totals: dict[str, list[float]] = {}
    for sent in traffic.sent:
        kind = "reduced" if sent.kind in REDUCING else "gathered"
        entry = totals.setdefault(f"{sent.turn}/{sent.purpose}/{kind}", [0.0, 0.0, 0.0])
        entry[0] += sent.on_a_ring(world)
        entry[1] += sent.payload
        entry[2] += 1
    return {key: torch.tensor(values, dtype=torch.float64) for key, values in totals.items()}


def least(engine: str, turn: str, *, size: dict[str, float], world: int, penalties: bool, game: str) -> float:
    """Bytes per process that the scheme cannot do without in a turn.

    Replicated and ZeRO-1/2: gradients reduced to their owners and the result (gradients, or weights) back: twice the
    size of the player. Engines that shard parameters: gradients reduced once, parameters gathered for the forward and
    again for the backward, or once where second derivatives keep them; and those of the opponent: the generator's for
    one forward, the discriminator's for a forward and a backward.
    """
    share = (world - 1) / world
    side = turn.split(",")[0]
    own = size[side]
    if engine not in ("zero3", "fsdp2"):
        return 2 * share * own
    lazy = "lazy" in turn
    gathers = 1 if lazy or (penalties and game == "sagan" and side == "discriminator") else 2
    opponent = size["generator"] if side == "discriminator" else 2 * size["discriminator"]
    if lazy:  # R1 looks at real images only, path length at the generator only
        opponent = 0.0
    return share * ((1 + gathers) * own + opponent)


def table(*, world: int = 2) -> list[dict[str, Any]]:
    """One row per game, engine, turn and step."""
    rows = []
    for game in games():
        for engine in ENGINES:
            found = run_ranks(count, world, engine, game, timeout_seconds=1800.0)[0]
            size = {side: float(found[f"size/{side}"]) for side in SIDES}
            turns = dict.fromkeys(key.rsplit("/", 2)[0] for key in found if not key.startswith("size/"))
            for step_and_turn in turns:
                due, turn = step_and_turn.split("/")
                parts = {
                    f"{purpose}_{kind}": found.get(f"{step_and_turn}/{purpose}/{kind}", torch.zeros(3)).tolist()
                    for purpose in ("players", "statistics")
                    for kind in ("reduced", "gathered")
                }
                row: dict[str, Any] = {"game": game, "engine": engine, "world": world, "step": due, "turn": turn}
                row |= {f"{name}_bytes": values[0] for name, values in parts.items()}
                row["calls"] = int(sum(values[2] for values in parts.values()))
                if turn != "rest":
                    penalties = due == "with penalties"
                    row["least_bytes"] = least(engine, turn, size=size, world=world, penalties=penalties, game=game)
                    row["of_least"] = (row["players_reduced_bytes"] + row["players_gathered_bytes"]) / row[
                        "least_bytes"
                    ]
                rows.append(row)
    return rows


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--world", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    with quiet_stdout():
        rows = table(world=arguments.world)
    titles = (
        "game",
        "engine",
        "step",
        "turn",
        "reduced kB",
        "gathered kB",
        "least kB",
        "of least",
        "statistics kB",
        "calls",
    )
    shown = Table(*titles, title=f"sent per process on a ring of {arguments.world}")
    for row in rows:
        statistics = row["statistics_reduced_bytes"] + row["statistics_gathered_bytes"]
        sizes = [row["players_reduced_bytes"], row["players_gathered_bytes"], row.get("least_bytes", 0.0)]
        cells = [f"{size / 1000:.1f}" for size in sizes]
        ratio = f"{row['of_least']:.3f}" if "of_least" in row else ""
        names = [row[name] for name in ("game", "engine", "step", "turn")]
        shown.add_row(*names, *cells, ratio, f"{statistics / 1000:.1f}", str(row["calls"]))
    show(rows, shown, as_json=arguments.json, width=150)


if __name__ == "__main__":
    main()
