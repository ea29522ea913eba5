"""What each engine holds on a process: parameters, gradients, optimiser moments, average, to the byte.

    python -m benchmarks.engine_memory            # StyleGAN2 with 32.5 million parameters, 2 processes; some minutes
    python -m benchmarks.engine_memory --json --world 4

Storages of live tensors are counted, each once (`tests/helpers/held.py`), on real gloo processes on this machine, after
real steps with R1 and path length: between steps; when the gradients of a turn are complete, before the optimiser; and
the most of each kind at any layer of a step. In units of what one process holds, beside what the scheme promises.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.report import command_line, quiet_stdout, show
from framework import R1, Adam, Alternating, Averaging, Network, NonSaturating, PathLength, Player, Recipe, Shards
from framework.networks import stylegan2
from tests.helpers.held import Peak, gradient_bytes, held, peak_resident_bytes, unexplained
from tests.helpers.play import start, steps
from tests.helpers.spawn import run_ranks

ENGINES = ("ddp", "zero1", "zero2", "zero3", "fsdp2")
MOMENTS = ("between steps", "before the optimiser", "most in a step")
TOLERANCE = 0.02
"""Of the network's size: paddings, and parameters with fewer rows than there are processes."""


def large(**changes: Any) -> Recipe:
    """StyleGAN2 at full width (512 channels), 16 px so that a CPU can step it: 16.0 and 16.5 million parameters."""
    adam = Adam(lr=1e-3, betas=(0.0, 0.99))
    options: dict[str, Any] = {
        "name": "large",
        "paper": "none",
        "data": Shards(location="synthetic", resolution=16, channels=3, classes=0),
        "generator": Player(network=Network(stylegan2.Generator), optimizer=adam),
        "discriminator": Player(network=Network(stylegan2.Discriminator), optimizer=adam),
        "game": Alternating(
            loss=NonSaturating(),
            discriminator_terms=(R1(weight=1.0, every=2),),
            generator_terms=(PathLength(every=2),),
            lazy_steps=True,
        ),
        "averaging": Averaging(half_life_images=50),
        "batch_size": 4,
        "images": 10_000,
    }
    return Recipe(**options | changes)


def promised(engine: str, kind: str, moment: str, world: int) -> float | None:
    """What the scheme holds, in units of the tensors of one process (parameters, gradients, two moments, average).

    The most in a step is promised only where a scheme keeps something whole; ZeRO-2's gradients, and parameters that
    are gathered layer by layer, depend on the network.
    """
    sharded = {
        "ddp": (),
        "zero1": ("moments", "average"),
        "zero2": ("moments", "average", "gradients"),
        "zero3": ("moments", "average", "gradients", "parameters"),
        "fsdp2": ("moments", "average", "gradients", "parameters"),
    }[engine]
    if kind not in ("parameters", "gradients", "moments", "average"):
        return None
    if moment == "most in a step" and kind in sharded and kind in ("parameters", "gradients"):
        return None
    if kind == "gradients" and moment == "between steps":
        return 1.0 if engine == "ddp" else 1.0 / world if engine == "zero3" else 0.0
    return 1.0 / world if kind in sharded else 1.0


def weigh(engine: str, small: bool = False) -> dict[str, Tensor]:
    """Bytes by moment and kind on this process after two steps, the first with lazy penalties."""
    played = start(_shrunk() if small else large(), engine=engine)
    complete: dict[str, int] = {}
    for side, player in played.state.players.items():
        _note_gradients_before_step(side, player, complete)
    with Peak(played) as peak:
        steps(played, count=2)
    rows = {"between steps": held(played), "most in a step": peak.most}
    rows["before the optimiser"] = {"gradients": sum(complete.values())}  # each player's in its own turn
    results = {f"{moment}/{kind}": torch.tensor(size) for moment, row in rows.items() for kind, size in row.items()}
    for side, player in played.state.players.items():
        results[f"size/{side}"] = torch.tensor(4 * num_parameters(player))
    for words in unexplained(played):
        print(f"{engine}: held, and explained by nothing: {words}", flush=True)
    results["resident"] = torch.tensor(peak_resident_bytes())
    return results


def _shrunk() -> Recipe:
    """For a test: 0.6 million parameters."""
    small = {"channel_base": 512, "channel_max": 64}
    recipe = large()
    return large(
        generator=Player(
            network=Network(stylegan2.Generator, **small, z_dim=64, w_dim=64), optimizer=recipe.generator.optimizer
        ),
        discriminator=Player(
            network=Network(stylegan2.Discriminator, **small), optimizer=recipe.discriminator.optimizer
        ),
    )


def _note_gradients_before_step(side: str, player: Any, found: dict[str, int]) -> None:
    step = player.step

    def weighed(**options: Any) -> Any:
        found.setdefault(side, gradient_bytes(player))
        return step(**options)

    player.step = weighed


def num_parameters(player: Any) -> int:
    """Trained parameters of a player, whole."""
    shapes = [getattr(p, "ds_shape", p.shape) for p in player.network.parameters() if p.requires_grad]
    return sum(math.prod(shape) for shape in shapes)


def table(*, world: int = 2, small: bool = False) -> list[dict[str, Any]]:
    """One row per engine, moment and kind; `units` are of the tensors that one process would hold."""
    rows = []
    for engine in ENGINES:
        ranks = run_ranks(weigh, world, engine, small, timeout_seconds=1800.0)
        both = int(ranks[0]["size/generator"] + ranks[0]["size/discriminator"])
        whole = {"parameters": both, "gradients": both, "moments": 2 * both, "average": int(ranks[0]["size/generator"])}
        for key in sorted(name for name in ranks[0] if name.startswith(MOMENTS)):
            moment, kind = key.split("/")
            size = max(int(found[key]) for found in ranks)
            units = size / whole[kind] if kind in whole else None
            row = {"engine": engine, "world": world, "moment": moment, "kind": kind, "bytes": size, "units": units}
            rows.append(row | {"promised": promised(engine, kind, moment, world)})
        resident = max(int(found["resident"]) for found in ranks)
        rows.append({"engine": engine, "world": world, "moment": "process", "kind": "peak RSS", "bytes": resident})
    return rows


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--world", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    with quiet_stdout():
        rows = table(world=arguments.world)
    shown = Table(
        "", *ENGINES, title=f"MiB per process, and units of one process (promised), {arguments.world} processes"
    )
    for moment, kind in dict.fromkeys((row["moment"], row["kind"]) for row in rows):
        shown.add_row(
            f"{kind}, {moment}", *(_cell(row) for row in rows if (row["moment"], row["kind"]) == (moment, kind))
        )
    show(rows, shown, as_json=arguments.json, width=150)


def _cell(row: dict[str, Any]) -> str:
    text = f"{row['bytes'] / 2**20:.1f}"
    if row.get("units") is not None:
        text += f" {row['units']:.3f}"
    return text if row.get("promised") is None else text + f" ({row['promised']:.3g})"


if __name__ == "__main__":
    main()
