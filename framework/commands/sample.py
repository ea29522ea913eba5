"""`framework sample CHECKPOINT`: a grid, an interpolation or an array of images from a trained generator.

A generator of points draws a plot instead of a grid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from framework.commands.translations import translations
from framework.games.showing import SCATTERED, points_plot
from framework.media.grids import image_grid, readable_scale, save_png
from framework.sampling.animation import interpolation, save_animation
from framework.sampling.classes import network_classes
from framework.sampling.draws import fixed_codes, walked_codes
from framework.sampling.generate import generate_vectors, settle_statistics, style_options
from framework.sampling.latents import SMALLEST_TRUNCATION, grid_labels
from framework.sampling.load import LoadedGenerator, load_generator
from framework.utils.errors import FrameworkError
from framework.utils.flags import LocalPath, OptionalLocalPath
from framework.utils.quantities import format_count
from framework.utils.ranges import Range

MOST_CELLS = 10_000
_GRID = "8x8"


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The flags of `framework sample`."""

    out: LocalPath = Path("samples.png")
    """Picture to write (.png); with --interpolate a .png strip, and an animation (.mp4 or .webp) beside it."""
    data: str | None = None
    """Packed pairs whose pictures are translated, for networks that translate."""
    grid: str = _GRID
    """COLUMNSxROWS; one class per column. With --interpolate: images per walk x walks."""
    classes: tuple[str, ...] = ()
    """Class numbers or names, one column each; default: spread over all classes."""
    truncation: Annotated[float | None, Range(least=SMALLEST_TRUNCATION)] = None
    """Redraw latent entries larger than this (smaller = more typical, less varied images)."""
    psi: Annotated[float | None, Range()] = None
    """Style-based generators: draw styles towards their mean (1 = not at all, 0.7 usual, 0 = the mean image)."""
    cutoff: Annotated[int | None, Range(least=0)] = None
    """Number of first layers in which --psi acts; the others draw as they are."""
    noise: Literal["none", "const", "random"] | None = None
    """Style-based generators: per-pixel noise; default: const, the same in every image."""
    seed: Annotated[int, Range()] = 0
    """Seed of the latents."""
    code: str | None = None
    """Walk through this code of the latents, one value per column: NAME, or NAME.0 for the first of its numbers."""
    interpolate: bool = False
    """Walk between latents instead: one row per class."""
    frames: Annotated[int, Range(least=2)] = 60
    """Images of the animation."""
    npz: OptionalLocalPath = None
    """Also write the images as arrays `images` (N, H, W, C) uint8 and `labels` (N,); points as `points` (N, D)."""
    count: Annotated[int | None, Range(least=1)] = None
    """Images in --npz; default: those of the grid. Of points: also those in the plot; default: 1,000."""
    weights: Literal["ema", "raw"] = "ema"
    """The moving average (ema), or the weights as they were last trained (raw)."""
    standing_statistics: Annotated[int, Range(least=0)] = 0
    """Recompute batch-norm statistics over so many batches before sampling."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 ..."""
    network: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """FILE.py:CLASS of a network class of your own, for example my_recipe.py:Generator; imports the file."""
    tracking_uri: str | None = None
    """MLflow store for runs:/... and models:/...; default: MLFLOW_TRACKING_URI, or runs/mlflow.db."""
    progress: bool = True
    """Show on standard error how far it is."""


def sample(
    checkpoint: Annotated[str, tyro.conf.Positional],
    *,
    options: Annotated[SampleOptions, tyro.conf.arg(name="")],
) -> None:
    """Draw images, or a plot of points, from a generator; the same seed gives the same bytes.

    Args:
        checkpoint: A checkpoint folder, a run folder (its newest valid checkpoint), runs:/<MLflow run id>, or
            models:/<registered name>/<version> (or @<alias>).
        options: What to draw.
    """
    columns, rows = parse_grid(options.grid)
    check(options.out, interpolate=options.interpolate, npz=options.npz)
    loaded = _loaded(checkpoint, options)
    if loaded.drawn.kind == "translations":
        _translate(loaded, options, columns=columns, rows=rows)
        return
    _check_kind(loaded, options)
    chosen = class_numbers(options.classes, loaded)
    if chosen and not options.interpolate:
        columns = len(chosen)
    if options.standing_statistics:
        settle_statistics(
            loaded.network,
            classes=loaded.classes,
            num_batches=options.standing_statistics,
            seed=options.seed,
            latents=loaded.drawn.latents,
            progress=options.progress,
        )

    if loaded.drawn.kind == "vectors":
        _draw_points(loaded, options, chosen=chosen)
        return
    if options.interpolate:
        _interpolate(loaded, options, chosen=chosen or _spread(loaded, rows), columns=columns)
    elif options.code is not None:
        _walk_code(loaded, options, options.code, columns=columns, rows=rows)
    else:
        labels = grid_labels(rows=rows, columns=columns, classes=loaded.classes, chosen=chosen)
        pixels = loaded.draw(_latents(loaded, options, count=rows * columns), labels).numpy()
        save_png(options.out, image_grid(pixels, columns=columns, labels=_titles(loaded, labels, columns)))
        print(options.out)
    if options.npz:
        _write_npz(options.npz, loaded, options, count=options.count or rows * columns, columns=columns, chosen=chosen)


def _translate(loaded: LoadedGenerator, options: SampleOptions, *, columns: int, rows: int) -> None:
    """Write rows of inputs, outputs and targets, and arrays where they are asked for."""
    names = ("classes", "truncation", "interpolate", "standing_statistics", "code")
    loaded.drawn.refuse_options_of_latents(**{name: getattr(options, name) for name in names})
    count = options.count if options.npz and options.count else 0
    made = translations(loaded, options.data, seed=options.seed, count=max(columns * rows, count))
    made.first(columns * rows).grid(columns=columns).save(options.out)
    print(options.out)
    if options.npz:
        made.first(count or columns * rows).save_arrays(options.npz)
        print(options.npz)


def _loaded(checkpoint: str, options: SampleOptions) -> LoadedGenerator:
    loaded = load_generator(
        checkpoint,
        device=options.device,
        averaged=options.weights == "ema",
        classes=network_classes(options.network),
        tracking_uri=options.tracking_uri,
    )
    style = style_options(loaded.network, psi=options.psi, cutoff=options.cutoff, noise=options.noise)
    return replace(loaded, options=style, progress=options.progress)


def check(out: Path, *, interpolate: bool, npz: Path | None) -> None:
    """Refuse what could not be written, before anything is drawn.

    Raises:
        FrameworkError: something could not be written; names the flag.
    """
    suffixes = (".png", ".webp", ".mp4") if interpolate else (".png",)
    if out.suffix not in suffixes:
        raise FrameworkError(f"--out {out}: the name must end in {' or '.join(suffixes)}")
    if npz is not None and npz.suffix != ".npz":
        raise FrameworkError(f"--npz {npz}: the name must end in .npz")
    if npz is not None and interpolate:
        raise FrameworkError("--npz holds the images of a grid: leave out --interpolate")


def parse_grid(text: str) -> tuple[int, int]:
    """Parse `8x4` and return (8 columns, 4 rows).

    Raises:
        FrameworkError: the text is not of that form, or names more than `MOST_CELLS` images.
    """
    sides = re.fullmatch(r"0*([1-9][0-9]{0,5})x0*([1-9][0-9]{0,5})", text.lower())
    if sides is None:
        raise FrameworkError(f"--grid {text}: write it as COLUMNSxROWS, for example 8x8")
    columns, rows = int(sides[1]), int(sides[2])
    if columns * rows > MOST_CELLS:
        raise FrameworkError(f"--grid {text}: at most {MOST_CELLS:,} images fit into a picture; use --npz for more")
    return columns, rows


def class_numbers(classes: tuple[str, ...], loaded: LoadedGenerator) -> list[int]:
    """Return class numbers from numbers and names, separated by spaces or commas.

    Raises:
        FrameworkError: a name that the data does not have, or a number out of range.
    """
    words = [word.strip() for part in classes for word in part.split(",") if word.strip()]
    names = [name.lower() for name in loaded.class_names]
    numbers = []
    for word in words:
        if not word.isdigit() and word.lower() not in names:
            known = f"names {', '.join(loaded.class_names)}" if names else f"numbers 0 ... {loaded.classes - 1}"
            raise FrameworkError(f"--classes {word}: this generator knows the {known}")
        numbers.append(int(word) if word.isdigit() else names.index(word.lower()))
    grid_labels(rows=1, columns=max(1, len(numbers)), classes=loaded.classes, chosen=numbers)  # refuses bad numbers
    return numbers


def _spread(loaded: LoadedGenerator, rows: int) -> list[int]:
    labels = grid_labels(rows=1, columns=min(rows, loaded.classes or 1), classes=loaded.classes)
    return [] if labels is None else labels.tolist()


def _titles(loaded: LoadedGenerator, labels: Tensor | None, columns: int) -> list[str] | None:
    if labels is None or not loaded.class_names:
        return None
    return [loaded.class_names[label] for label in labels[:columns].tolist()]


def _interpolate(loaded: LoadedGenerator, options: SampleOptions, *, chosen: list[int], columns: int) -> None:
    """Write one row per class: a picture of open walks, and an animation of closed ones, which can loop."""
    out, frames = options.out, options.frames
    common: dict[str, Any] = {"classes": chosen, "truncation": options.truncation, "seed": options.seed}
    strip = interpolation(loaded, steps=columns, closed=False, **common)
    picture = out.with_suffix(".png")
    save_png(picture, image_grid(strip.flatten(0, 1).numpy(), columns=columns))
    print(picture)
    moving = interpolation(loaded, steps=frames, closed=True, **common)
    grids = [image_grid(moving[:, i].numpy(), columns=max(1, len(chosen)), scale=4) for i in range(frames)]
    print(save_animation(out if out.suffix in (".mp4", ".webp") else out.with_suffix(".webp"), grids))


def _walk_code(loaded: LoadedGenerator, options: SampleOptions, code: str, *, columns: int, rows: int) -> None:
    """Write a grid whose columns go through one code."""
    codes, titles = walked_codes(loaded.drawn.latents, walked=code, seed=options.seed, rows=rows, columns=columns)
    labels = None
    if loaded.classes:  # the class of a row is another thing that stays
        labels = (torch.arange(rows) % loaded.classes).repeat_interleave(len(titles))
    pixels = loaded.draw(codes, labels).numpy()
    grid = image_grid(pixels, columns=len(titles), labels=titles, scale=readable_scale(pixels.shape[-1]))
    save_png(options.out, grid)
    print(options.out)


def _write_npz(
    path: Path, loaded: LoadedGenerator, options: SampleOptions, *, count: int, columns: int, chosen: list[int]
) -> None:
    """Write the first `count` images of a grid of so many columns as arrays."""
    labels = _first_labels(loaded, count=count, columns=columns, chosen=chosen)
    images = loaded.draw(_latents(loaded, options, count=count), labels).permute(0, 2, 3, 1).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, images=images, labels=_numbers(labels, count))
    print(path)


def _first_labels(loaded: LoadedGenerator, *, count: int, columns: int, chosen: list[int]) -> Tensor | None:
    """Return the classes (count,) of a grid of so many columns, its last row cut; None without classes."""
    labels = grid_labels(rows=-(-count // columns), columns=columns, classes=loaded.classes, chosen=chosen)
    return None if labels is None else labels[:count]


def _numbers(labels: Tensor | None, count: int) -> np.ndarray:
    """Return labels as an array (count,); zeros without classes."""
    return np.zeros(count, np.int64) if labels is None else labels.numpy()


def _check_kind(loaded: LoadedGenerator, options: SampleOptions) -> None:
    """Refuse flags that mean nothing for what this network draws.

    Raises:
        FrameworkError: there is such a flag; names it.
    """
    if options.data is not None:
        raise FrameworkError("--data: this network draws from latents, it translates no pictures: leave it out")
    if options.interpolate and (loaded.drawn.kind == "vectors" or loaded.drawn.latents):
        raise FrameworkError(
            "--interpolate shows pictures between Gaussian latents, which this generator does not draw"
        )
    if options.truncation is not None and loaded.drawn.latents:
        raise FrameworkError("--truncation redraws Gaussian latents: the recipe of this generator names its own")
    if options.code is not None and (options.interpolate or options.npz or loaded.drawn.kind == "vectors"):
        raise FrameworkError("--code draws a grid of pictures: leave out --interpolate and --npz")
    if options.grid != _GRID and loaded.drawn.kind == "vectors":
        raise FrameworkError("--grid arranges pictures: points are drawn in one plot, of --count points")


def _latents(loaded: LoadedGenerator, options: SampleOptions, *, count: int) -> Tensor:
    """Return what the generator is called with, (count, z_dim)."""
    return fixed_codes(
        loaded.drawn.latents, seed=options.seed, count=count, z_dim=loaded.z_dim, truncation=options.truncation
    )


def _draw_points(loaded: LoadedGenerator, options: SampleOptions, *, chosen: list[int]) -> None:
    """Write a plot of points in the plane; vectors of another length only as arrays.

    Raises:
        FrameworkError: there is nothing to write.
    """
    count = options.count or SCATTERED
    labels = _first_labels(loaded, count=count, columns=len(chosen) or loaded.classes or 1, chosen=chosen)
    points = generate_vectors(loaded.network, _latents(loaded, options, count=count), labels)
    if points.dim() == 2 and points.shape[1] == 2:
        title = f"{loaded.recipe.get('name', 'samples')} at {format_count(loaded.images_seen)} images"
        print(points_plot(points[:MOST_CELLS], label="generated", title=title).save(options.out))
    elif options.npz is None:
        shape = " x ".join(map(str, points.shape[1:]))
        raise FrameworkError(f"samples of {shape} numbers are no points in a plane: write them as arrays, with --npz")
    if options.npz:
        options.npz.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(options.npz, points=points.numpy(), labels=_numbers(labels, count))
        print(options.npz)
