"""What the random numbers of a step cost each process, by version, global batch and number of processes, in one run.

    python -m benchmarks.draws [--json]

A step of StyleGAN2 at 256 px with ADA: both players' turns with their latents, mixed latents, seeds of the noise, and
the augmentation of real and generated images; lazy penalties, which come every few steps, are left out. Seconds are CPU
time of one thread, for the rows of the first process in one micro-batch: the smaller of two times. Version 1 draws
for the whole batch whatever the process needs. What version 2 costs on a GPU is not measured here, only the number of
its kernels is counted: the operations that are no views.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.recipes import load_recipe
from benchmarks.report import command_line, show
from framework.augment.ada import Ada
from framework.augment.chance import Chance
from framework.games.microbatch import BatchPartition, ImageDraws
from framework.networks import latent_size
from framework.networks.draw import stochastic_inputs
from framework.runtime.seeding import VERSIONS, Draws, DrawsVersion

RECIPE, AUGMENT = load_recipe("stylegan2_ffhq256"), Ada()
BATCHES, WORLDS, REPEATS = (256, 1_024, 4_096, 16_384, 65_536), (1, 64), 2
CPU = torch.device("cpu")


class Kernels(TorchDispatchMode):
    """Counts the operations that compute something."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def step(generator: torch.nn.Module, version: DrawsVersion, *, batch_size: int, world: int, images_seen: int) -> Tensor:
    """Draw what one process needs in one step; returns the latents."""
    (part,) = BatchPartition(batch_size=batch_size, world=world).slices()
    draws = Draws(seed=0, images_seen=images_seen, version=version)
    for purpose, judged in (("discriminator/0", ("real", "fake")), ("generator", ("fake",))):
        draw = ImageDraws(
            draws=draws, purpose=purpose, batch_size=batch_size, rows=part.rows, device=CPU, dtype=torch.float32
        )
        z = draw.normal("z", latent_size(generator))
        stochastic_inputs(generator, draw)
        for what in judged:
            Chance(
                num_images=len(z),
                device=CPU,
                strength=0.5,
                multipliers=AUGMENT.multipliers,
                requests=AUGMENT.requests,
                draw=draw.under(f"augment/{what}"),
            )
    return z


def measured(generator: torch.nn.Module, *, batch_size: int, world: int) -> dict[str, Any]:
    """A row of the table: seconds by version."""
    seconds: dict[DrawsVersion, list[float]] = {version: [] for version in VERSIONS}
    for repeat in range(REPEATS):
        for version in VERSIONS:
            begun = time.process_time()
            step(generator, version, batch_size=batch_size, world=world, images_seen=repeat)
            seconds[version].append(time.process_time() - begun)
    best = {f"version_{version}_cpu_seconds": min(taken) for version, taken in seconds.items()}
    ratio = min(seconds[1]) / min(seconds[2])
    return {"batch_size": batch_size, "world": world, "rows": batch_size // world, **best, "version_1_over_2": ratio}


def main() -> None:
    """Measure and print."""
    as_json = command_line(__doc__).parse_args().json
    torch.set_num_threads(1)
    with torch.device("meta"):
        generator = RECIPE.build_network("generator")
    step(generator, 2, batch_size=64, world=1, images_seen=0)  # makes the table of quantiles, once a process
    with Kernels() as kernels:
        step(generator, 2, batch_size=64, world=1, images_seen=0)
    rows = [measured(generator, batch_size=batch_size, world=world) for batch_size in BATCHES for world in WORLDS]
    table = Table("global batch", "processes", "rows", "version 1, ms", "version 2, ms", "times")
    for row in rows:
        table.add_row(
            f"{row['batch_size']:,}",
            str(row["world"]),
            f"{row['rows']:,}",
            f"{row['version_1_cpu_seconds'] * 1e3:,.1f}",
            f"{row['version_2_cpu_seconds'] * 1e3:,.1f}",
            f"{row['version_1_over_2']:,.1f}",
        )
    show({"kernels_of_version_2": kernels.count, "steps": rows}, table, as_json=as_json)
    if not as_json:
        print(f"version 2: {kernels.count} kernels a step")


if __name__ == "__main__":
    main()
