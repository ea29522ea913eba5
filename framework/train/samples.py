"""Draw the sample grids of a run: fixed latents, one class per column, and real images in the same layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framework.engines.ema import EMA
from framework.networks import latent_size
from framework.networks.blocks.spectral import power_iteration
from framework.recipe import Recipe
from framework.runtime.session import Session
from framework.sampling.generate import POWER_ITERATIONS, generate
from framework.sampling.latents import grid_labels, latents
from framework.tracking import NullTracker, Tracker
from framework.tracking.grids import image_grid

ROWS, COLUMNS = 5, 10
"""The size of a grid that MLflow's small card shows whole."""


@contextlib.contextmanager
def averaged(average: EMA) -> Iterator[nn.Module]:
    """Yield the generator with its averaged weights, ready to draw from; see `EMA.swapped_in`."""
    with average.swapped_in() as network:
        power_iteration(network, steps=POWER_ITERATIONS)
        yield network


@dataclass(frozen=True, kw_only=True)
class SampleGrids:
    """The sample grids of a run, which it draws into the tracker."""

    recipe: Recipe
    average: EMA
    session: Session
    tracker: Tracker | NullTracker
    class_names: Sequence[str]

    @property
    def columns(self) -> int:
        """The number of columns of a grid."""
        return min(self.recipe.data.classes, COLUMNS) or COLUMNS

    def show_samples(self, images_seen: int) -> None:
        """Draw fixed latents from the averaged generator; a collective where the average is sharded."""
        if not (self.average.collective or self.session.is_main):
            return
        labels = grid_labels(rows=ROWS, columns=self.columns, classes=self.recipe.data.classes)
        with averaged(self.average) as network:
            z = latents(seed=self.recipe.seed, count=ROWS * self.columns, z_dim=latent_size(network))
            pixels = generate(network, z, labels)
        if self.session.is_main:
            smaller = self.recipe.data.resolution // pixels.shape[-1]  # a growing generator's images are
            self._draw("samples/ema", pixels, labels, scale=self._scale() * smaller, images_seen=images_seen)

    def show_reals(self, images: Tensor, labels: Tensor) -> None:
        """Draw real images in the layout of the sample grids, for comparison.

        Args:
            images: uint8 (N, C, H, W), from which those of the wanted classes are chosen.
            labels: int64 (N,).
        """
        wanted = grid_labels(rows=ROWS, columns=self.columns, classes=self.recipe.data.classes)
        chosen = images[: ROWS * self.columns]
        if self.recipe.data.classes > self.columns:
            wanted = None  # more classes than a few hundred images can show in columns
        if wanted is not None:
            chosen = _arrange(images, labels, wanted)
        self._draw("samples/real", chosen, wanted, scale=self._scale(), images_seen=0)

    def _draw(self, key: str, pixels: Tensor, labels: Tensor | None, *, scale: int, images_seen: int) -> None:
        names = self._column_names(labels)
        self.tracker.image(
            key, image_grid(pixels.numpy(), columns=self.columns, labels=names, scale=scale), images_seen=images_seen
        )

    def _column_names(self, labels: Tensor | None) -> list[str] | None:
        if labels is None:
            return None
        names = self.class_names
        return [names[c] if c < len(names) else str(c) for c in labels[: self.columns].tolist()]

    def _scale(self) -> int:
        return max(1, 64 // self.recipe.data.resolution)


def _arrange(images: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Return images (len(wanted), C, H, W) whose labels are `wanted` (N,); white where a class has too few."""
    chosen = torch.full((len(wanted), *images.shape[1:]), 255, dtype=torch.uint8)
    for label in wanted.unique().tolist():
        places = (wanted == label).nonzero().flatten()
        found = (labels == label).nonzero().flatten()[: len(places)]
        chosen[places[: len(found)]] = images[found]
    return chosen
