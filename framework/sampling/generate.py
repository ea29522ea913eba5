"""Runs generators: from latents to uint8 images."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from framework.networks import latent_size
from framework.networks.blocks.norm import standing_statistics
from framework.networks.latents import Latent
from framework.runtime.seeding import Draws
from framework.sampling.draws import sample_codes
from framework.utils.errors import FrameworkError
from framework.utils.progress import show_progress

POWER_ITERATIONS = 15
"""Number of power iterations after which the stored vectors, made for the last weights, fit the averaged weights."""


@torch.no_grad()
def generate(
    network: nn.Module,
    z: Tensor,
    labels: Tensor | None = None,
    *,
    batch_size: int = 32,
    options: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Tensor:
    """Run a generator in batches and return uint8 images (N, C, H, W) on the CPU.

    Args:
        network: called as `network(z, labels)`, returns images in [-1, 1]; put it in eval mode first.
        z: latents (N, z_dim).
        labels: class numbers (N,) int64, or None.
        batch_size: number of images per forward.
        options: further arguments of the network's forward; see `style_options`.
        progress: show on standard error how far it is.
    """
    parameter = next(network.parameters())
    parts = []
    with show_progress("drawing", total=len(z), enabled=progress) as advance:
        for start in range(0, len(z), batch_size):
            part = slice(start, start + batch_size)
            y = None if labels is None else labels[part].to(parameter.device)
            parts.append(to_uint8(network(z[part].to(parameter), y, **(options or {}))))
            advance(len(parts[-1]))
    return torch.cat(parts)


@torch.no_grad()
def generate_vectors(network: nn.Module, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """Run a generator of vectors and return them, float32 (N, ...) on the CPU.

    Args:
        network: called as `network(z, labels)`; put it in eval mode first.
        z: latents (N, z_dim).
        labels: class numbers (N,) int64, or None.
    """
    parameter = next(network.parameters())
    y = None if labels is None else labels.to(parameter.device)
    vectors: Tensor = network(z.to(parameter), y)
    return vectors.float().cpu()


def style_options(
    network: nn.Module, *, psi: float | None = None, cutoff: int | None = None, noise: str | None = None
) -> dict[str, Any]:
    """Return the arguments that were given, for the forward of a style-based generator (StyleGAN, arXiv:1812.04948).

    Args:
        psi: share of the way from the mean style at which styles are taken; 0: the mean image, 1: no truncation.
        cutoff: number of first layers to which psi applies; None: all.
        noise: kind of the per-pixel noise, `none`, `const` or `random`.

    Raises:
        FrameworkError: this generator has no such option; names the flag.
    """
    known = inspect.signature(network.forward).parameters
    given = {"psi": psi, "cutoff": cutoff, "noise": noise}
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in known:
            hint = "; --truncation redraws large latents of any generator" if name == "psi" else ""
            raise FrameworkError(f"--{name}: {type(network).__module__} is not a style-based generator{hint}")
    return options


def to_uint8(images: Tensor) -> Tensor:
    """Convert images of any shape from [-1, 1] to uint8 from 0 to 255 on the CPU, rounded to nearest."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


@torch.no_grad()
def settle_statistics(
    network: nn.Module,
    *,
    classes: int,
    num_batches: int,
    seed: int,
    latents: Sequence[Latent] = (),
    batch_size: int = 64,
    progress: bool = False,
) -> None:
    """Recompute batch-norm statistics from the network's own samples (standing statistics, arXiv:1809.11096, B).

    Args:
        classes: number of classes; 0 for an unconditional generator.
        num_batches: number of batches that are drawn.
        seed: seed of latents and labels.
        latents: the latents that a recipe names; empty for one Gaussian vector.
        batch_size: number of samples per batch.
        progress: show on standard error how far it is.
    """
    parameter = next(network.parameters())
    shown = show_progress("standing statistics", total=num_batches, enabled=progress, unit="batches")
    with standing_statistics(network, statistics="local"), shown as advance:
        for index in range(num_batches):
            draws = Draws(seed=seed, images_seen=index)
            if latents:
                numbers = range(index * batch_size, (index + 1) * batch_size)
                z = sample_codes(latents, seed=seed, numbers=numbers, purpose="standing").to(parameter)
            else:
                z = draws.normal("standing", batch_size, latent_size(network)).to(parameter)
            labels = draws.integers("standing/labels", classes, batch_size).to(parameter.device) if classes else None
            network(z, labels)
            advance(1)
