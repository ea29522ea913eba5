"""Opens the sources of a recipe: where their shards are on this machine, and the stream of all of them."""

from __future__ import annotations

import sys
from pathlib import Path

from framework.data.computed import Computed, ComputedStream
from framework.data.fields import fields_of
from framework.data.joined import JoinedStream, SampleStream, seed_of
from framework.data.schema import at_resolution
from framework.data.stacked import Stacked, StackedStream
from framework.data.stream import open_stream
from framework.recipe import Recipe, Shards, Source, Sources
from framework.runtime.session import Session
from framework.sampling.stored import StackedSamples, StoredSamples
from framework.train.config import RunConfig
from framework.utils.errors import FrameworkError

MOST_SKIPPED_SAMPLES = 1_000
"""The most damaged samples that one process skips in one epoch, with `--on-bad-sample skip`."""


def data_location(recipe: Recipe, config: RunConfig) -> str:
    """Return where the shards are: `--data`, or the recipe's location beside the recipe file or in the current folder.

    Of several sources the locations are found when these are opened, and what is computed has none: "".

    Raises:
        FrameworkError: the recipe's own location is at neither place, or `--data` names one place for a recipe that has
            several sources, or none with files.
    """
    shards = _shards_of(recipe.data)
    if shards is None:
        if config.data is not None:
            hint = "" if isinstance(recipe.data, Computed) else "; set data.sources.NAME.location by --set"
            raise FrameworkError(f"--data names the place of one set of shards, {recipe.name} does not have one{hint}")
        return ""
    return config.data if config.data is not None else _found(recipe.name, shards.location, flag="--data")


def _shards_of(source: Source) -> Shards | None:
    """Return the shards that a source reads; None for one that is computed, or several."""
    if isinstance(source, Stacked):
        return source.of
    return source if isinstance(source, Shards) else None


def beside_recipe(location: str) -> Path:
    """Return a recipe's location as it is beside the recipe file; an absolute one as it is."""
    return Path(sys.argv[0]).resolve().parent / location


def _found(name: str, location: str, *, flag: str) -> str:
    """Return a recipe's location as it is from here: beside the recipe file, or else in the current folder.

    Args:
        flag: by which the user names another place.
    """
    beside = beside_recipe(location)
    if beside.exists() or "://" in location or any(mark in location for mark in ("{", "*", "pipe:")):
        return str(beside) if beside.exists() else location
    if not Path(location).exists():
        raise FrameworkError(
            f"the data of {name} is neither at {beside} nor at {Path(location).resolve()}: pack it with "
            f"`framework pack` (recipes/data/README.md has the commands), or say where it is with {flag}"
        )
    return location


def open_data(
    recipe: Recipe, config: RunConfig, *, session: Session, location: str, resolution: int | None
) -> SampleStream:
    """Open the real samples.

    Args:
        location: where the shards of a single source are; see `data_location`.
        resolution: side of the images in pixels in a phase of a recipe that grows; None: as the recipe's fields say.

    Raises:
        DataError: the shards cannot be read, or are not as the recipe says.
    """
    if not isinstance(recipe.data, Sources):
        return _open(recipe.data, location, recipe.seed, config, session=session, resolution=resolution)
    if resolution is not None:
        raise FrameworkError("growth: a recipe of several sources cannot grow; leave it out")
    streams = {}
    for name, source in recipe.data.items():
        place, shards = "", _shards_of(source)
        if shards is not None:
            flag = f"--set data.sources.{name}{'' if shards is source else '.of'}.location=PLACE"
            place = _found(f"{recipe.name}, {name},", shards.location, flag=flag)
        seed = seed_of(recipe.seed, name)
        streams[name] = _open(source, place, seed, config, session=session, resolution=None)
    return JoinedStream(streams)


def _open(
    source: Source, location: str, seed: int, config: RunConfig, *, session: Session, resolution: int | None
) -> SampleStream:
    if isinstance(source, Computed):
        return ComputedStream(source, seed=seed)
    if isinstance(source, Stacked):
        of = source.of

        def opened(seed: int) -> SampleStream:
            return _open(of, location, seed, config, session=session, resolution=resolution)

        return StackedStream(source, opened, seed=seed)
    if not isinstance(source, Shards):
        raise FrameworkError(
            f"data: a {type(source).__name__} cannot be read; it is neither Shards, Stacked nor Computed"
        )
    fields = fields_of(source)
    return open_stream(
        location,
        fields=fields if resolution is None else at_resolution(fields, resolution),
        seed=seed,
        flip=source.flip,
        window=source.window,
        **config.cache_options,
        on_bad_sample=config.on_bad_sample,
        max_skipped=MOST_SKIPPED_SAMPLES,
        workers=config.workers,
        pin_memory=session.device.type == "cuda",
        channels_last=True,
    )


def stored_samples(recipe: Recipe, location: str, config: RunConfig) -> StoredSamples:
    """Open the training data of a recipe with shards in the fixed order of evaluations; see `data_location`.

    Raises:
        DataError: the shards cannot be read, or are not as the recipe says.
    """
    if isinstance(recipe.data, Stacked):
        return StackedSamples(location, recipe.data, **config.cache_options)
    return StoredSamples(location, fields_of(recipe.data), **config.cache_options)


def open_held_out(recipe: Recipe, config: RunConfig) -> StoredSamples | None:
    """Open the samples of a recipe that are not trained on, or return None where it has none.

    Raises:
        FrameworkError: they cannot be read, or are not packed shards.
    """
    if recipe.held_out is None:
        return None
    if not isinstance(recipe.held_out, Shards):
        raise FrameworkError(f"held_out: a {type(recipe.held_out).__name__} is not read; use Shards")
    return StoredSamples(
        _found(f"{recipe.name}, held out,", recipe.held_out.location, flag="--set held_out.location=PLACE"),
        fields_of(recipe.held_out),
        **config.cache_options,
    )
