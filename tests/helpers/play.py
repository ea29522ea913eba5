"""A small game on synthetic images, the same for any number of processes, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework import R1, Adam, Alternating, Averaging, Hinge, Linear, Network, Player, Recipe, Shards
from framework.engines.choose import build_engine
from framework.engines.ema import EMA
from framework.games.microbatch import BatchPartition
from framework.games.runner import GameRunner
from framework.networks import latent_size, mlp, sagan
from framework.runtime.seeding import NEW_RUNS, Draws, DrawsVersion, seed_torch
from framework.train.state import TrainingState
from tests.helpers import smooth


def small_recipe(**changes: Any) -> Recipe:
    """A conditional SAGAN with spectral norm, conditional batch norm, lazy R1, clipping and a schedule."""
    recipe = Recipe(
        name="small",
        paper="none",
        data=Shards(location="synthetic", resolution=32, channels=1, classes=5),
        generator=Player(
            network=Network(sagan.Generator, width=4, z_dim=8, attention_at=16),
            optimizer=Adam(lr=1e-3, betas=(0.0, 0.9)),
            schedule=Linear(end_images=400, end=0.5),
            clip_norm=1.0,
        ),
        discriminator=Player(
            network=Network(sagan.Discriminator, width=4, attention_at=16), optimizer=Adam(lr=2e-3, betas=(0.0, 0.9))
        ),
        game=Alternating(loss=Hinge(), discriminator_terms=(R1(weight=1.0, every=2),)),
        averaging=Averaging(half_life_images=50),
        batch_size=12,
        images=10_000,
    )
    return replace(recipe, **changes)


def smooth_recipe(**changes: Any) -> Recipe:
    """The same game with the kink-free players of `tests.helpers.smooth`."""
    recipe = small_recipe()
    return replace(
        recipe,
        data=replace(recipe.data, resolution=8),
        generator=replace(recipe.generator, network=Network(smooth.Generator)),
        discriminator=replace(recipe.discriminator, network=Network(smooth.Discriminator)),
        **changes,
    )


def plain_recipe(**changes: Any) -> Recipe:
    """A game of fully connected players without classes or batch statistics: micro-batches change nothing in it."""
    recipe = small_recipe()
    return replace(
        recipe,
        data=replace(recipe.data, resolution=8, classes=0),
        generator=replace(recipe.generator, network=Network(mlp.Generator, z_dim=8, width=16, activation="tanh")),
        discriminator=replace(recipe.discriminator, network=Network(mlp.Discriminator, width=16, activation="tanh")),
        **changes,
    )


@dataclass
class Batch:
    images: Tensor
    labels: Tensor

    @property
    def fields(self) -> dict[str, Tensor]:
        return {"image": self.images, "label": self.labels}


def synthetic(
    recipe: Recipe, partition: BatchPartition, start: int = 0, *, resolution: int | None = None
) -> Iterator[Batch]:
    """This rank's rows of random real images, a function of the position."""
    data, position = recipe.data, start
    side = resolution or data.resolution
    while True:
        draws = Draws(seed=99, images_seen=position)
        shape = (recipe.batch_size, data.channels, side, side)
        images = draws.integers("images", 256, *shape).to(torch.uint8)
        labels = draws.integers("labels", max(1, data.classes), recipe.batch_size)
        slices = partition.slices()
        yield Batch(torch.cat([images[m.rows] for m in slices]), torch.cat([labels[m.rows] for m in slices]))
        position += recipe.batch_size


@dataclass
class Played:
    """A game with its parts, before or after some steps."""

    game: GameRunner
    state: TrainingState
    partition: BatchPartition
    recipe: Recipe


def start(
    recipe: Recipe,
    *,
    micro_batches: int = 1,
    dtype: torch.dtype = torch.float32,
    precision: str = "fp32",
    segment: int = 0,
    engine: str = "ddp",
    draws_version: DrawsVersion = NEW_RUNS,
    helpers: Mapping[str, nn.Module] | None = None,
) -> Played:
    """Build the game in this process (group), on one segment of the recipe's clock."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    engines = {}
    for side in ("generator", "discriminator"):
        seed_torch(recipe.seed, side, rank)  # ranks start differently on purpose: the engine must make them equal
        network = recipe.build_network(side).to(dtype)
        engines[side] = build_engine(network, getattr(recipe, side), side=side, engine=engine, precision=precision)
    average = EMA(engines["generator"])
    partition = BatchPartition(batch_size=recipe.batch_size, micro_batches=micro_batches, rank=rank, world=world)
    game = GameRunner(
        recipe.game,
        players=engines,
        averages={"generator": average},
        recipe=recipe,
        partition=partition,
        segment=recipe.segments()[segment],
        draws_version=draws_version,
        helpers=helpers,
    )
    state = TrainingState(players=engines, averages={"generator": average}, memory=game.memory)
    return Played(game, state, partition, recipe)


def steps(played: Played, *, begin: int = 0, count: int) -> dict[str, Tensor]:
    """Play on synthetic batches; returns what `steps_on` does."""
    segment = played.game.segment
    images = segment.start + begin
    batches = synthetic(played.recipe, played.partition, images, resolution=segment.resolution)
    return steps_on(played, batches, images=images, count=count)


def steps_on(played: Played, batches: Iterator[Any], *, images: int, count: int) -> dict[str, Tensor]:
    """Play from a clock on; losses, gradient norms and logits per step (count,) by name, under `scores/`."""
    table: dict[str, list[float]] = {}
    for _ in range(count):
        metrics, finite = played.game.step(batches, images_seen=images)
        assert finite
        for name, value in metrics.means(device=torch.device("cpu")).items():
            table.setdefault(name, []).append(value)
        images += played.game.images_of_step(images)
    return {f"scores/{name}": torch.tensor(values, dtype=torch.float64) for name, values in table.items()}


def outputs(played: Played) -> dict[str, Tensor]:
    """What the players and the average compute after playing, on fixed inputs."""
    recipe, draws = played.recipe, Draws(seed=5, images_seen=0)
    dtype = next(played.game.players["generator"].network.parameters()).dtype
    z = draws.normal("z", 10, latent_size(played.game.players["generator"].network)).to(dtype)
    labels = torch.arange(10) % recipe.data.classes if recipe.data.classes else None
    result = {}
    with torch.no_grad():
        with played.game.players["generator"].resident(), played.game.players["discriminator"].resident():
            played.game.players["generator"].network.eval()
            images = played.game.players["generator"].network(z, labels)
            played.game.players["generator"].network.train()
            result["outputs/generator"] = images
            result["outputs/discriminator"] = played.game.players["discriminator"].network(images, labels)
        with played.game.averages["generator"].swapped_in() as averaged:
            result["outputs/average"] = averaged(z, labels)
    return result


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor], prefix: str) -> float:
    """The largest absolute difference over entries whose name begins with `prefix`."""
    names = [name for name in a if name.startswith(prefix)]
    assert names == [name for name in b if name.startswith(prefix)]
    assert names
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in names)
