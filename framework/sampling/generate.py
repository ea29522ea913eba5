"""From latents to uint8 images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from framework.networks import latent_size
from framework.networks.blocks.norm import standing_statistics
from framework.runtime.seeding import Draws

POWER_ITERATIONS = 15
"""The power-iteration vectors stored with averaged weights belong to the last weights; so many steps make them fit."""


@torch.no_grad()
def generate(network: nn.Module, z: Tensor, labels: Tensor | None = None, *, batch_size: int = 32) -> Tensor:
    """Run a generator in batches.

    Args:
        network: called as `network(z, labels)`, returns images in [-1, 1]; put it in eval mode first.
        z: (N, z_dim); labels: (N,) or None.

    Returns:
        uint8 images (N, C, H, W) on the CPU.
    """
    parameter = next(network.parameters())
    parts = []
    for start in range(0, len(z), batch_size):
        part = slice(start, start + batch_size)
        y = None if labels is None else labels[part].to(parameter.device)
        parts.append(to_uint8(network(z[part].to(parameter), y)))
    return torch.cat(parts)


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8 on the CPU, rounded to nearest."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


@torch.no_grad()
def settle_statistics(network: nn.Module, *, classes: int, num_batches: int, seed: int, batch_size: int = 64) -> None:
    """Recompute batch-norm statistics from the network's own samples (standing statistics, arXiv:1809.11096, B)."""
    parameter = next(network.parameters())
    with standing_statistics(network, statistics="local"):
        for index in range(num_batches):
            draws = Draws(seed=seed, images=index)
            z = draws.normal("standing", batch_size, latent_size(network)).to(parameter)
            labels = draws.integers("standing/labels", classes, batch_size).to(parameter.device) if classes else None
            network(z, labels)
