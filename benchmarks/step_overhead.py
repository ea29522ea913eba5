"""Our step against a hand-written loop of the same networks, in one run.

Both sides train the quick start's networks with the same batches, on one process. The hand-written loop is what one
would write for this one game: draw, forward, hinge loss, backward, Adam, average; no micro-batches, votes, scores or
positions. Rounds alternate, and the ratio is taken inside each round, because machines drift.

    python -m benchmarks.step_overhead [--json FILE] [--rounds 7] [--steps 8]
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable
from json import dumps
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn

from benchmarks.recipes import load_recipe
from framework.engines.choose import build_engine
from framework.engines.ema import EMA
from framework.games.alternating import Alternating
from framework.games.microbatch import BatchPartition
from framework.games.runner import GameRunner
from framework.networks import latent_size
from framework.networks.blocks.spectral import power_iteration
from framework.recipe import Recipe
from framework.runtime.seeding import Draws, seed_torch


class Batch:
    """Random real images in the shape of the recipe's data."""

    def __init__(self, recipe: Recipe) -> None:
        draws, data = Draws(seed=1, images_seen=0), recipe.data
        shape = (recipe.batch_size, data.channels, data.resolution, data.resolution)
        images = draws.integers("images", 256, *shape).to(torch.uint8)
        self.fields = {"image": images, "label": draws.integers("labels", data.classes, recipe.batch_size)}


def networks(recipe: Recipe) -> dict[str, nn.Module]:
    """Fresh networks, the same for both sides."""
    built = {}
    for side in ("generator", "discriminator"):
        seed_torch(recipe.seed, side)
        built[side] = recipe.build_network(side)
    return built


def our_step(recipe: Recipe, batch: Batch) -> Callable[[], object]:
    """A step of the framework."""
    assert isinstance(recipe.game, Alternating)
    engines = {
        side: build_engine(network, getattr(recipe, side), side=side, engine="ddp", precision="fp32")
        for side, network in networks(recipe).items()
    }
    game = GameRunner(
        recipe.game,
        players=engines,
        averages={"generator": EMA(engines["generator"])},
        recipe=recipe,
        partition=BatchPartition(batch_size=recipe.batch_size),
    )
    clock, batches = itertools.count(0, recipe.batch_size), itertools.repeat(batch)
    return lambda: game.step(batches, images_seen=next(clock))


def hand_written_step(recipe: Recipe, batch: Batch) -> Callable[[], object]:
    """The same game written out for this one case."""
    built = networks(recipe)
    generator, discriminator = built["generator"], built["discriminator"]
    average = copy.deepcopy(generator).requires_grad_(False)
    g_adam = recipe.generator.optimizer.build(generator.parameters())
    d_adam = recipe.discriminator.optimizer.build(discriminator.parameters())
    size, classes, z_dim = recipe.batch_size, recipe.data.classes, latent_size(generator)

    def latents() -> tuple[Tensor, Tensor]:
        return torch.randn(size, z_dim), torch.randint(classes, (size,))

    def step() -> None:
        real = batch.fields["image"].float() / 127.5 - 1
        power_iteration(discriminator)
        z, y = latents()
        with torch.no_grad():
            fake = generator(z, y)
        on_real, on_fake = discriminator(real, batch.fields["label"]), discriminator(fake, y)
        d_adam.zero_grad()
        (torch.relu(1 - on_real).mean() + torch.relu(1 + on_fake).mean()).backward()
        d_adam.step()
        power_iteration(generator)
        discriminator.requires_grad_(False)
        z, y = latents()
        g_adam.zero_grad()
        (-discriminator(generator(z, y), y).mean()).backward()
        g_adam.step()
        discriminator.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 0.01)

    return step


def seconds(step: Callable[[], object], steps: int) -> float:
    """CPU seconds of this process per step: other programs on the machine do not count."""
    begun = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - begun) / steps


def main(*, json: Path | None = None, rounds: int = 7, steps: int = 8, batch_size: int = 64) -> None:
    """Print seconds per step of both loops and their ratio.

    Args:
        json: Also write the figures there.
        rounds: Alternating rounds.
        steps: Steps per side and round.
        batch_size: Images per step.
    """
    torch.set_num_threads(1)
    recipe = load_recipe("sagan_fashion", batch_size=batch_size)
    batch = Batch(recipe)
    sides = {"framework": our_step(recipe, batch), "hand-written": hand_written_step(recipe, batch)}
    for step in sides.values():
        step()
    table = []
    for _ in range(rounds):
        row = {name: seconds(step, steps) for name, step in sides.items()}
        table.append(row)
        print("  ".join(f"{name} {1000 * value:.1f} ms" for name, value in row.items()), flush=True)
    ratios = [row["framework"] / row["hand-written"] for row in table]
    summary = {"median_ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
    print(f"framework / hand-written: median {summary['median_ratio']:.3f} [{min(ratios):.3f} - {max(ratios):.3f}]")
    if json:
        json.write_text(dumps({"rounds": table, **summary, "torch": torch.__version__}, indent=2) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
