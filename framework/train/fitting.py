"""`--auto-micro-batch`: gradient accumulation per phase, so that the estimated memory fits."""

from __future__ import annotations

import torch

from framework.errors import FrameworkError
from framework.growth import Segment
from framework.networks import grow
from framework.quantities import format_bytes
from framework.recipe import SIDES, Recipe
from framework.runtime.memory import available_bytes
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.preflight import activation_bytes, largest_share

USABLE_SHARE = 0.8
"""Of the memory that is free: the rest is for workspaces, fragmentation and what the estimate does not see."""


def fitting_micro_batches(recipe: Recipe, segment: Segment, config: RunConfig, *, session: Session) -> int:
    """The fewest micro-batches, from `--micro-batches` up, with which every process's activations fit.

    Raises:
        FrameworkError: not even one image per process fits.
    """
    # The process with the least decides for all.
    usable = -session.max_over_ranks(-usable_bytes(session.device, processes_here=session.local_world))
    return fewest_micro_batches(recipe, segment, config, world=session.world, usable=usable)


def usable_bytes(device: torch.device, *, processes_here: int) -> float:
    """Bytes of memory that this process's activations may take: a GPU is its own, RAM is shared."""
    return USABLE_SHARE * available_bytes(device) / (1 if device.type == "cuda" else processes_here)


def fewest_micro_batches(recipe: Recipe, segment: Segment, config: RunConfig, *, world: int, usable: float) -> int:
    """The fewest micro-batches whose activations take at most `usable` bytes per process.

    Raises:
        FrameworkError: not even one image per process fits.
    """
    with torch.device("meta"):
        networks = {side: recipe.build_network(side) for side in SIDES}
    for network in networks.values():
        grow(network, resolution=segment.resolution, alpha=0.5 if segment.fading else 1.0)
    one, two = (activation_bytes(networks, recipe, n) // (1 if config.precision == "fp32" else 2) for n in (1, 2))
    per_image, whatever_the_batch = two - one, 2 * one - two  # the latter: weights that backward needs
    for micro_batches in range(config.micro_batches, segment.batch_size // world + 1):
        local = largest_share(segment.batch_size, micro_batches=micro_batches, world=world)
        if whatever_the_batch + local * per_image <= usable:
            return micro_batches
    raise FrameworkError(
        f"--auto-micro-batch: one image of {segment.resolution}x{segment.resolution} takes about "
        f"{format_bytes(one)}, usable is {format_bytes(int(usable))}; use a smaller network or a larger device"
    )
