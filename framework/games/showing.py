"""What a game shows of a run: the context it is given, and the pictures of samples that games have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from framework.data.fields import Field, Image, Label, fields_of
from framework.media import Media, PictureGrid, Plot, Scatter
from framework.media.grids import readable_scale
from framework.recipe import Recipe
from framework.sampling.latents import grid_labels

ROWS, COLUMNS = 5, 10
"""The size of a grid that MLflow's small card shows whole."""
SCATTERED = 1_000
"""The number of points in a plot of samples, and the most real ones behind them."""
PLOT_PIXELS = (640, 720)
"""Width and height of a plot of points, which leave its axes square between title and legend."""
MARGIN = 0.25
"""What the axes of a plot of points show beyond the real ones on each side, as a share of their extent."""


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What is known when a run shows itself."""

    recipe: Recipe
    class_names: Sequence[str] = ()
    """The names of the classes in the data; empty where it has none."""
    reals: Mapping[str, Tensor] = field(default_factory=dict)
    """Some hundred real samples by field, as a batch has them, (n, ...); empty where they are not at hand."""
    held_out: Mapping[str, Tensor] = field(default_factory=dict)
    """Some samples that are not trained on, by field, as a batch has them; empty where the recipe has none."""

    @property
    def classes(self) -> int:
        """The number of classes of the data; 0 without."""
        return self.recipe.data.classes

    @property
    def columns(self) -> int:
        """The number of columns of a grid with one class each."""
        return min(self.classes, COLUMNS) or COLUMNS

    def labels(self) -> Tensor | None:
        """Return the classes (ROWS * columns,) of a grid's pictures; None without classes."""
        return grid_labels(rows=ROWS, columns=self.columns, classes=self.classes)

    def grid(self, pixels: Tensor, labels: Tensor | None, *, scale: int = 1) -> PictureGrid:
        """Return a grid of pictures.

        Args:
            pixels: uint8 (N, C, H, W).
            labels: their classes (N,), the same in all rows; None without.
            scale: a further factor on the side of the pictures, beside the one that makes small ones readable.
        """
        names: list[str] = []
        if labels is not None:
            known = self.class_names
            names = [known[c] if c < len(known) else str(c) for c in labels[: self.columns].tolist()]
        readable = readable_scale(self.recipe.data.resolution)
        return PictureGrid(pixels.numpy(), columns=self.columns, column_names=names, scale=readable * scale)

    def grid_of_reals(self, name: str) -> PictureGrid:
        """Return real pictures, uint8, in the layout of generated ones.

        Args:
            name: the field of the pictures.
        """
        images, labels, wanted = self.reals[name], self.reals.get("label"), self.labels()
        chosen = images[: ROWS * self.columns]
        if self.classes > self.columns or labels is None:
            wanted = None  # more classes than a few hundred images can show in columns
        if wanted is not None and labels is not None:
            chosen = _arranged(images, labels, wanted)
        return self.grid(chosen, wanted)

    def scattered(self, points: Tensor, *, label: str, real: Tensor | None = None) -> Plot:
        """Return a plot of points (N, 2), over real ones where they are given.

        The real ones fix the axes, so that plots of several clocks can be compared.
        """
        behind = None if real is None else real[:SCATTERED]
        return points_plot(
            points, label=label, real=behind, title=f"{self.recipe.name}: samples of the averaged generator"
        )


def points_plot(points: Tensor, *, label: str, real: Tensor | None = None, title: str = "") -> Plot:
    """Return a plot of points (N, 2); real ones lie behind them, and fix the axes to a square around themselves.

    Args:
        points: what is shown.
        label: their name.
        real: what they are compared with, (M, 2); None for axes that show all points.
        title: the text above.
    """
    width, height = PLOT_PIXELS
    layer = Scatter(points.numpy(), label=label)
    finite = torch.empty(0, 2) if real is None else real[real.isfinite().all(1)]
    if real is None or not len(finite):
        return Plot((layer,), title=title, equal_axes=True, width=width, height=height)
    low, high = finite.double().amin(0), finite.double().amax(0)
    middle, half = (low + high) / 2, float((high - low).max()) * (0.5 + MARGIN) or 1.0
    x_range, y_range = ((float(one) - half, float(one) + half) for one in middle)
    return Plot(
        (Scatter(real.numpy(), label="real", mark="halo"), layer),
        title=title,
        x_range=x_range,
        y_range=y_range,
        equal_axes=True,
        width=width,
        height=height,
    )


def sample_field(recipe: Recipe) -> Field:
    """Return the field that the discriminator judges: the first that is not the label."""
    return next(one for one in fields_of(recipe.data) if not isinstance(one, Label))


def shows_pictures(recipe: Recipe) -> bool:
    """Return whether the samples are pictures of 1 or 3 channels."""
    field = sample_field(recipe)
    return isinstance(field, Image) and field.channels in (1, 3)


def shown_together(rows: Mapping[str, Tensor], *, resolution: int) -> Media:
    """Return pictures in named rows, one below the other: an input, what was made of it, what it should have been.

    Args:
        rows: uint8 (N, C, H, W) by name.
        resolution: the side of the pictures in pixels.
    """
    shown = {name: pixels.numpy() for name, pixels in rows.items()}
    return PictureGrid.of_rows(shown, scale=readable_scale(resolution))


def _arranged(images: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Return images (len(wanted), C, H, W) whose labels are `wanted` (N,); white where a class has too few."""
    chosen = torch.full((len(wanted), *images.shape[1:]), 255, dtype=torch.uint8)
    for label in wanted.unique().tolist():
        places = (wanted == label).nonzero().flatten()
        found = (labels == label).nonzero().flatten()[: len(places)]
        chosen[places[: len(found)]] = images[found]
    return chosen
