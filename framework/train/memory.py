"""Estimate the memory that training needs, and choose the number of micro-batches that makes it fit.

`--auto-micro-batch` takes the fewest micro-batches, per phase, whose estimated memory fits. Without it, a run that goes
on with fewer processes than its checkpoint was trained with (a machine is lost, say) keeps the number of images that
one process holds at once: the same global batch, in more micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from framework.games.base import Game, Turn
from framework.games.example import example_fields
from framework.games.microbatch import BatchPartition, ImageDraws
from framework.networks import grow
from framework.networks.blocks.minibatch import MinibatchStddev
from framework.networks.blocks.minibatch_discrimination import MinibatchDiscrimination
from framework.networks.blocks.norm import BatchNorm2d
from framework.networks.observe import iterates
from framework.objectives.lecam import LeCam
from framework.objectives.lipschitz import Dragan, MaxGradientPenalty
from framework.objectives.path_length import PathLength
from framework.objectives.relativistic import RelativisticAverage, RelativisticCentered
from framework.recipe import Recipe
from framework.recipe.growth import Segment
from framework.runtime.memory import available_bytes
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.trial import META, draws_for, shapes_only, told, tried
from framework.utils.errors import FrameworkError
from framework.utils.quantities import format_bytes

USABLE_SHARE = 0.8
"""The share of free memory to plan with; the rest is for workspaces, fragmentation and what is not estimated."""

OVER_A_MICRO_BATCH = (
    BatchNorm2d,
    MinibatchStddev,
    MinibatchDiscrimination,
    RelativisticAverage,
    RelativisticCentered,
    LeCam,
    MaxGradientPenalty,
    Dragan,
    PathLength,
)
"""The parts that compute over all images of a micro-batch, and so compute something else with other micro-batches."""


@dataclass(frozen=True, kw_only=True)
class MicroBatching:
    """The cutting of a run's global batches, as its checkpoints record it."""

    world: int
    """The number of processes."""
    micro_batches: int
    """The number of micro-batches of a global batch."""


def kept_micro_batches(
    recipe: Recipe, segment: Segment, config: RunConfig, *, world: int, before: MicroBatching | None
) -> tuple[int, str]:
    """Choose the number of micro-batches such that no process holds more images at once than `before`.

    It is `--micro-batches`, or more where there are fewer processes than before. Where something in the recipe is
    computed over a whole micro-batch (`OVER_A_MICRO_BATCH`), the number stays as given, because another one would train
    something else.

    Args:
        world: number of processes.
        before: how the checkpoint's batches were cut; None for a new run.

    Returns:
        The number, and a sentence for the user where there are fewer processes (else empty).
    """
    if before is None or world >= before.world:
        return config.micro_batches, ""
    fewer, size = f"{world} process(es) instead of {before.world}", segment.batch_size
    # What is computed over a micro-batch goes before memory.
    held = largest_share(size, micro_batches=before.micro_batches, world=before.world)
    if names := over_a_micro_batch(recipe):
        now = largest_share(size, micro_batches=config.micro_batches, world=world)
        return config.micro_batches, (
            f"{fewer}: each now holds up to {now} images at once instead of {held}; more micro-batches would save that "
            f"memory, but change what {' and '.join(names)} computes"
        )
    # The fewest micro-batches that hold no more images than before.
    most = max(config.micro_batches, size // world)
    enough = (m for m in range(config.micro_batches, most) if largest_share(size, micro_batches=m, world=world) <= held)
    micro_batches = next(enough, most)
    now = largest_share(size, micro_batches=micro_batches, world=world)
    return micro_batches, (
        f"{fewer}: global batches of {size} images in {micro_batches} micro-batch(es), so that each process holds at "
        f"most {now} at once ({held} before); --auto-micro-batch chooses by the memory there is"
    )


def over_a_micro_batch(recipe: Recipe) -> list[str]:
    """Return the names of what the recipe computes over a whole micro-batch of all processes."""
    parts: list[object] = [part for side in recipe.players for part in shapes_only(recipe, side).modules()]
    for name in ("loss", "discriminator_terms", "generator_terms"):
        part = getattr(recipe.game, name, ())
        parts += part if isinstance(part, tuple) else (part,)
    # Local statistics are over a process's own images, and those stay together.
    tied = {type(p).__name__ for p in parts if isinstance(p, OVER_A_MICRO_BATCH) and _statistics(p) == "global"}
    if getattr(recipe.game, "top_k", None) is not None:
        tied.add("top-k training")
    if any(isinstance(p, nn.Module) and iterates(p) for p in parts):
        tied.add("torch's spectral norm")
    return sorted(tied)


def _statistics(part: object) -> str:
    return part.statistics if isinstance(part, BatchNorm2d) else "global"


def fitting_micro_batches(recipe: Recipe, segment: Segment, config: RunConfig, *, session: Session) -> int:
    """Choose the fewest micro-batches, from `--micro-batches` up, with which every process's activations fit.

    It is the same on every process (a collective).

    Raises:
        FrameworkError: not even one image per process fits.
    """
    # The process with the least decides for all.
    usable = -session.max_over_ranks(-usable_bytes(session.device, processes_here=session.local_world))
    return fewest_micro_batches(recipe, segment, config, world=session.world, usable=usable)


def usable_bytes(device: torch.device, *, processes_here: int) -> float:
    """Return the bytes that this process's activations may take; a GPU is its own, and RAM is shared."""
    return USABLE_SHARE * available_bytes(device) / (1 if device.type == "cuda" else processes_here)


def fewest_micro_batches(recipe: Recipe, segment: Segment, config: RunConfig, *, world: int, usable: float) -> int:
    """Choose the fewest micro-batches whose activations take at most `usable` bytes per process.

    Raises:
        FrameworkError: not even one image per process fits, or a network cannot run on meta tensors.
    """
    networks = {side: shapes_only(recipe, side) for side in recipe.players}
    for network in networks.values():
        grow(network, resolution=segment.resolution, alpha=0.5 if segment.fading else 1.0)
    # Two counts give the bytes of an image and those that do not depend on the batch.
    width = 1 if config.precision == "fp32" else 2
    one, two = (activation_bytes(networks, recipe, count, segment=segment) // width for count in (1, 2))
    per_image, whatever_the_batch = two - one, 2 * one - two  # the latter: weights that backward needs
    for micro_batches in range(config.micro_batches, segment.batch_size // world + 1):
        local = largest_share(segment.batch_size, micro_batches=micro_batches, world=world)
        if whatever_the_batch + local * per_image <= usable:
            return micro_batches
    raise FrameworkError(
        f"--auto-micro-batch: one image of {segment.resolution}x{segment.resolution} takes about "
        f"{format_bytes(one)}, usable is {format_bytes(int(usable))}; use a smaller network or a larger device"
    )


class NoEstimate(FrameworkError):
    """Raised when a network's activations cannot be estimated without running it."""


@dataclass
class _SavedBytes:
    total: int = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        self.total += tensor.numel() * tensor.element_size()
        return tensor


def largest_share(batch_size: int, *, micro_batches: int, world: int) -> int:
    """Return the number of images in the largest micro-batch of any process.

    Raises:
        DataError: some process would be left without images.
    """
    share = BatchPartition(batch_size=batch_size, micro_batches=micro_batches, world=world)
    return max(m.rows.stop - m.rows.start for m in share.slices())


def activation_bytes(
    networks: dict[str, nn.Module], recipe: Recipe, local: int, *, segment: Segment | None = None
) -> int:
    """Return the bytes that autograd keeps for the largest turn, counted on meta tensors.

    A turn through other players (the generator's) holds its own forward and theirs; any other (the discriminator's)
    holds two of its own, and about as much again for a penalty on input gradients, whose graph mirrors the forward.

    Args:
        networks: the players' networks by name, on the meta device.
        local: number of samples.
        segment: of the clock; the last one by default.

    Raises:
        NoEstimate: a network cannot run on meta tensors.
    """
    game = recipe.game
    assert isinstance(game, Game)
    draw = draws_for(local, device=META)
    fields = example_fields(recipe, segment or recipe.segments()[-1], draw)
    # What autograd would save in one forward of each player.
    saved = {}
    for player, network in networks.items():
        counted = _SavedBytes()
        with torch.autograd.graph.saved_tensors_hooks(counted.pack, lambda tensor: tensor):
            _on_meta(network, *game.example(player, network, fields, draw), draw=draw)
        saved[player] = counted.total
    return max(_turn_bytes(turn, saved) for turn in game.turns())


def _turn_bytes(turn: Turn, saved: dict[str, int]) -> int:
    if turn.through:
        # A step ahead judges real and generated samples, and its gradient has a graph as large again.
        judged = sum(saved[player] for player in turn.through) * (1 + 4 * turn.look_ahead)
        return turn.repeats * (saved[turn.player] + judged)
    penalised = any(term.needs_second_derivative for term in turn.terms)
    return saved[turn.player] * (4 if penalised else 2)


def _on_meta(network: nn.Module, *inputs: torch.Tensor | None, draw: ImageDraws) -> None:
    trial = tried(network, *inputs, draw=draw)
    if trial.error is not None:
        name = type(network).__name__
        raise NoEstimate(
            f"the memory cannot be estimated: {name} does not run on meta tensors ({told(trial.error)}); instead of "
            "--auto-micro-batch give --micro-batches"
        )
