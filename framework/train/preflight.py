"""Tell what a recipe is and what it will need (`--dry-run`), without data or weights and without writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from framework.engines.choose import check
from framework.games.microbatch import BatchShare
from framework.networks import latent_size
from framework.recipe import SIDES, Recipe
from framework.recipe.description import describe, dumps, science_hash
from framework.train.config import RunConfig
from framework.train.trial import META, shapes_only, told, tried
from framework.utils.errors import FrameworkError
from framework.utils.quantities import format_bytes, format_count


class NoEstimate(FrameworkError):
    """Raised when a network's activations cannot be estimated without running it."""


@dataclass
class _SavedBytes:
    total: int = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        self.total += tensor.numel() * tensor.element_size()
        return tensor


def plan(recipe: Recipe, config: RunConfig, *, world: int, device: torch.device) -> dict[str, Any]:
    """Return the report behind `--dry-run --json`.

    Args:
        world: number of processes.
        device: where the recipe would be trained.

    Raises:
        EngineError: an engine cannot do what the recipe asks.
        FrameworkError: a network cannot be built.
    """
    for side in SIDES:
        player = getattr(recipe, side)
        engine = player.engine or config.engine
        check(engine, player, side=side, device=device, precision=config.precision, world=world)
    networks = {side: shapes_only(recipe, side) for side in SIDES}
    counts = {side: sum(p.numel() for p in network.parameters()) for side, network in networks.items()}
    last = recipe.segments()[-1]
    local = largest_share(last.batch_size, micro_batches=config.micro_batches, world=world)
    return {
        "recipe": describe(recipe),
        "science_hash": science_hash(recipe),
        "parameters": {**counts, "total": sum(counts.values())},
        "processes": world,
        "engine": config.engine,
        "precision": config.precision,
        "micro_batches": config.micro_batches,
        "images_per_micro_batch": local,
        "memory_bytes_per_process": _memory(networks, counts, recipe, local, config),
    }


def largest_share(batch_size: int, *, micro_batches: int, world: int) -> int:
    """Return the number of images in the largest micro-batch of any process.

    Raises:
        DataError: some process would be left without images.
    """
    share = BatchShare(batch_size=batch_size, micro_batches=micro_batches, world=world)
    return max(m.rows.stop - m.rows.start for m in share.micros())


def _memory(
    networks: dict[str, nn.Module], counts: dict[str, int], recipe: Recipe, local: int, config: RunConfig
) -> dict[str, int | None]:
    """Return bytes by what they are for; None where they cannot be estimated without running the networks."""
    moments = {side: len(getattr(recipe, side).optimizer.moments) for side in SIDES}
    memory = {
        "weights": 4 * sum(counts.values()),
        "gradients": 4 * sum(counts.values()),
        "optimizer": 4 * sum(moments[side] * counts[side] for side in SIDES),
        "average": 4 * counts["generator"],
    }
    known = sum(memory.values())
    try:
        activations = activation_bytes(networks, recipe, local) // (1 if config.precision == "fp32" else 2)
    except NoEstimate:
        return {**memory, "activations": None, "total": None}
    return {**memory, "activations": activations, "total": known + activations}


def activation_bytes(networks: dict[str, nn.Module], recipe: Recipe, local: int) -> int:
    """Return the bytes that autograd keeps for the larger of the two turns, counted on meta tensors.

    The generator's turn holds its own forward and the discriminator's; the discriminator's turn holds two of its own,
    and about as much again for a penalty on input gradients, whose graph mirrors the forward.

    Raises:
        NoEstimate: a network cannot run on meta tensors.
    """
    generator, discriminator = networks["generator"], networks["discriminator"]
    labels = torch.zeros(local, dtype=torch.int64, device=META) if recipe.data.classes else None
    # What autograd would save in the generator and then in the discriminator.
    own, judged = _SavedBytes(), _SavedBytes()
    with torch.autograd.graph.saved_tensors_hooks(own.pack, lambda tensor: tensor):
        images = _on_meta(generator, torch.zeros(local, latent_size(generator), device=META), labels)
    with torch.autograd.graph.saved_tensors_hooks(judged.pack, lambda tensor: tensor):
        _on_meta(discriminator, images, labels)
    penalised = any(term.needs_second_derivative for term in getattr(recipe.game, "discriminator_terms", ()))
    return judged.total + max(own.total, judged.total * (3 if penalised else 1))


def _on_meta(network: nn.Module, first: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    trial = tried(network, first, labels)
    if trial.error is not None:
        name = type(network).__name__
        raise NoEstimate(
            f"the memory cannot be estimated: {name} does not run on meta tensors ({told(trial.error)}); instead of "
            "--auto-micro-batch give --micro-batches"
        )
    output: torch.Tensor = trial.output
    return output


def _phases(rows: list[dict[str, Any]]) -> Table:
    table = Table("phase", "batch", "micro-batches", "peak memory", "s/kimg", title="One real step of every phase")
    for row in rows:
        measured = (row.get("error", ""), "")
        if "memory_bytes" in row:
            measured = format_bytes(row["memory_bytes"]), f"{row['seconds_per_kimg']:,.1f}"
        side = f"{row['resolution']}x{row['resolution']}"
        table.add_row(side, str(row["batch_size"]), str(row["micro_batches"]), *measured)
    return table


def show(report: dict[str, Any], *, as_json: bool) -> None:
    """Print the report as JSON or as tables."""
    if as_json:
        print(dumps(report), end="")
        return
    console = Console()
    recipe = report["recipe"]
    console.print(f"[bold]{recipe['name']}[/]  {recipe['paper']}", highlight=False)
    console.print(dumps(recipe), highlight=False, end="")
    table = Table("", "generator", "discriminator", "total", title="Parameters")
    table.add_row("count", *(f"{report['parameters'][side]:,}" for side in (*SIDES, "total")))
    console.print(table)
    if report.get("phases"):
        console.print(_phases(report["phases"]))
    memory = Table(
        "per process", "estimate", title=f"Memory, {report['images_per_micro_batch']} images per micro-batch"
    )
    for name, num_bytes in report["memory_bytes_per_process"].items():
        memory.add_row(name, "unknown" if num_bytes is None else format_bytes(num_bytes))
    console.print(memory)
    console.print(
        f"{format_count(recipe['images'])} images on {report['processes']} process(es), engine {report['engine']}, "
        f"{report['precision']}; science hash {report['science_hash'][:12]}; nothing was written",
        highlight=False,
    )
