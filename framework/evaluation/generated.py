"""Generated images by position: image i is a function of the weights, the seed and i, whoever draws it.

`undisturbed` lets an evaluation draw them in the middle of training and leave no trace in what training computes later.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from framework.evaluation.images import BATCH_SIZE, Part, even_batch_ranges
from framework.networks import latent_size
from framework.runtime.seeding import Draws, derive
from framework.sampling.generate import generate
from framework.sampling.latents import latents


@contextlib.contextmanager
def undisturbed(*networks: nn.Module) -> Iterator[None]:
    """Restore random numbers, modes and buffers (batch-norm statistics) after the block, which computes no gradients.

    Our own draws come from keys and not from these random number generators; but a library or a layer might use them,
    and then a run with evaluations would differ from the run without.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    python, old_numpy = random.getstate(), np.random.get_state()
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=cuda), torch.no_grad():
            for network in networks:
                network.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(old_numpy)
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


_PURPOSE = "evaluation"


@dataclass(frozen=True, kw_only=True)
class GeneratedImages:
    """A generator in eval mode as a set of images.

    Attributes:
        network: called as in `framework.sampling.generate`; the caller has put the average in place where wanted.
        count: number of images for metrics that name no count; more can be drawn.
        classes: number of classes; 0 for an unconditional generator.
        seed: seed of latents and labels.
        label_shares: share of each class; empty for equal shares. Use those of the real set.
        weights: the weights that the network holds, for the protocol.
        truncation: latent entries beyond it are drawn again, see `framework.sampling.latents`.
        options: further arguments of every forward, such as psi; see `style_options`.
        notes: further facts for the protocol, such as standing statistics.
    """

    network: nn.Module
    count: int = 50_000
    seed: int = 0
    classes: int = 0
    label_shares: tuple[float, ...] = ()
    weights: Literal["ema", "live"] = "ema"
    truncation: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    pairs: bool = False
    """Whether neighbours 2j and 2j + 1 share a class (for diversity inside a class)."""

    endless = True

    def describe(self) -> dict[str, Any]:
        """Return the facts about these images that belong to the protocol."""
        labels = "none"
        if self.classes:
            labels = "drawn with the real set's shares" if self.label_shares else "drawn with equal shares"
        return {
            "kind": "generator",
            "seed": self.seed,
            "weights": self.weights,
            "labels": labels,
            "truncation": self.truncation,
            **{name: self.options.get(name) for name in ("psi", "cutoff", "noise")},
            **self.notes,
        }

    def in_pairs(self, count: int) -> GeneratedImages:
        """Return a set of `count` images in which images 2j and 2j + 1 share a class."""
        return replace(self, count=count, pairs=True)

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this rank's batches of the first `count` images; see `ImageSet.parts`."""
        for positions, mine in even_batch_ranges(count, rank=rank, world=world):
            images = self.draw(self.latents(positions), self.labels(positions))
            if mine:
                yield Part(positions.start, images, self.labels_or_zero(positions))

    def draw(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Draw uint8 images (n, 3, H, W) on the host from latents (n, z_dim) and labels (n,) int64."""
        images = generate(self.network, z, labels, batch_size=BATCH_SIZE, options=self.options)
        return images.expand(-1, 3, -1, -1)

    def latents(self, positions: range, *, purpose: str = _PURPOSE) -> Tensor:
        """Return the latents (n, z_dim) of the images at these positions, float32 on the host."""
        z_dim = latent_size(self.network)
        rows = [
            latents(
                seed=derive(self.seed, i, bits=64), count=1, z_dim=z_dim, truncation=self.truncation, purpose=purpose
            )
            for i in positions
        ]
        return torch.cat(rows)

    def labels(self, positions: range) -> Tensor | None:
        """Return the labels (n,) int64 of the images at these positions; None for an unconditional generator."""
        if not self.classes:
            return None
        shares = torch.tensor(self.label_shares or (1.0,) * self.classes, dtype=torch.float64)
        upper = shares.cumsum(0) / shares.sum()
        places = [i // 2 if self.pairs else i for i in positions]
        draws = torch.cat(
            [Draws(seed=self.seed, images_seen=i).uniform(f"{_PURPOSE}/label", 1) for i in places]
        ).double()
        return torch.searchsorted(upper, draws, right=True).clamp_max(self.classes - 1)

    def labels_or_zero(self, positions: range) -> Tensor:
        """Return the labels (n,) int64 of the images at these positions; zeros for an unconditional generator."""
        labels = self.labels(positions)
        return torch.zeros(len(positions), dtype=torch.int64) if labels is None else labels
