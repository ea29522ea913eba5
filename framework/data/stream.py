"""The stream of a data set: batches from any position on, the same for any number of ranks and workers.

stream = open_stream("/data/faces", resolution=256, classes=10, flip=True)
with stream.batches(1_280_000, batch_size=256, rank=rank, world=world) as batches:
    for batch in batches: ...
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from framework.data.batches import Batch, Batches, Loading, ReadPartition, WorkerKind
from framework.data.cache import ShardCache
from framework.data.decode import reduction
from framework.data.errors import DataError
from framework.data.fetch import FetchOptions
from framework.data.fields import Field, Label, Picture, fields_of_images
from framework.data.manifest import Manifest
from framework.data.plan import GlobalOrder
from framework.data.points import Vector
from framework.data.process import ReadPlan
from framework.data.samples import OnBadSample, ReadOptions
from framework.data.schema import describe_fields, stored_side
from framework.data.shards import Verify
from framework.data.sources import FOREIGN, Source, default_cache_folder, open_source

__all__ = ["Batch", "Batches", "Stream", "open_stream"]


class Stream:
    """A data set in its global order. `open_stream` reads the manifest; `batches` reads samples.

    Attributes:
        manifest: manifest of the shards that are read.
        order: order of the samples.
        count: number of samples in an epoch.
        fingerprint: identity of the data; see `framework.data.manifest`.
        class_names: names of the classes in the manifest; may be empty.
    """

    def __init__(self, plan: ReadPlan, loading: Loading) -> None:
        self.manifest: Manifest = plan.source.manifest
        self.order: GlobalOrder = plan.make_order()
        self.count: int = self.order.count
        self.fingerprint: str = self.manifest.fingerprint
        self.class_names: tuple[str, ...] = self.manifest.class_names
        self._plan, self._loading = plan, loading

    def describe(self) -> dict[str, Any]:
        """Return what was opened and how, as plain values for the record of a run."""
        options, manifest = self._plan.options, self.manifest
        told = describe_fields(options.fields)
        return {
            "location": self._plan.source.location,
            "name": manifest.name,
            "split": manifest.split,
            "count": self.count,
            "num_shards": len(manifest.shards),
            "bytes": sum(shard.bytes for shard in manifest.shards),
            "fingerprint": self.fingerprint,
            "stored_resolution": manifest.resolution,
            **told,
            "encoding": manifest.encoding,
            "seed": options.seed,
            "flip": options.flip,
            "window": self.order.window,
            "lanes": self.order.lanes,
            "on_bad_sample": options.on_bad_sample,
            "source": dict(manifest.source),
        }

    def shards_at(self, positions: list[int]) -> list[str]:
        """Return the names of the shards that hold the samples at some positions, each once."""
        places = (self.order.locate(position) for position in positions)
        return list(dict.fromkeys(self.manifest.shards[place.shard].name for place in places))

    def batches(
        self,
        start: int,
        *,
        batch_size: int,
        micro_batches: int = 1,
        rank: int = 0,
        world: int = 1,
        stop: int | None = None,
    ) -> Batches:
        """Return this rank's part of the global batches from position `start` on; no sample before it is read.

        Args:
            start: first position (= images seen so far).
            batch_size: number of samples of all ranks together.
            micro_batches: number of micro-batches of a batch; see `framework.data.plan.rank_positions`.
            rank: number of this process, 0 ... world - 1.
            world: number of processes.
            stop: position before which the stream ends: the last batch is cut there, and may be empty on some ranks.
                Without it the stream has no end; batches run across the ends of epochs.

        Raises:
            DataError: an argument is out of range.
        """
        partition = ReadPartition.checked(
            start, batch_size=batch_size, micro_batches=micro_batches, rank=rank, world=world, stop=stop
        )
        return Batches(self._plan, self.order, start=start, partition=partition, loading=self._loading)


def open_stream(
    location: str | os.PathLike[str],
    *,
    resolution: int = 0,
    channels: int = 3,
    classes: int = 0,
    fields: tuple[Field, ...] = (),
    seed: int = 0,
    flip: bool = False,
    window: int = 65536,
    lanes: int = 1,
    cache_folder: str | os.PathLike[str] | None = None,
    cache_bytes: int = 50 << 30,
    on_bad_sample: OnBadSample = "error",
    max_skipped: int = 100,
    workers: int = 2,
    worker_kind: WorkerKind = "process",
    prefetch_batches: int = 4,
    pin_memory: bool = False,
    channels_last: bool = False,
    timeout_seconds: float = 120.0,
    verify: Verify = "size",
    fetch: FetchOptions | None = None,
) -> Stream:
    """Open a data set: a folder, a glob or brace list of shards, `http(s)://` of these, or `pipe:` commands.

    Shards made by others (no manifest) are read once in full on first use, to learn what they hold. Arguments not named
    below are fields of `ReadOptions` and of `Loading`.

    Args:
        location: see `framework.data.sources`.
        fields: the fields of a sample; by default those of `fields_of_images`, as `resolution` and the others say.
        window: number of samples shuffled together; 0 for all. Shards of a window must fit into the cache twice.
        lanes: number of places of the data set read in turn; see `framework.data.plan`.
        cache_folder: folder for remote shards and for records of foreign ones; default `~/.cache/framework/shards`.
        cache_bytes: bound of the cache, shared by all processes that use the folder.
        verify: check of local shards on first use, "size" or "sha256". Remote ones are always hashed as they arrive.
        fetch: limits for remote shards; the default follows `timeout_seconds`.

    Raises:
        DataError: the data set does not fit what is asked for; ManifestError or ShardError: it is damaged.
    """
    loading = Loading(
        workers=workers,
        worker_kind=worker_kind,
        prefetch_batches=prefetch_batches,
        pin_memory=pin_memory,
        timeout_seconds=timeout_seconds,
    )
    options = ReadOptions(
        fields=fields or fields_of_images(resolution=resolution, channels=channels, classes=classes),
        seed=seed,
        flip=flip,
        on_bad_sample=on_bad_sample,
        max_skipped=max_skipped,
        channels_last=channels_last,
    )
    limits = fetch or _limits(timeout_seconds)
    cache = _CachePlan(folder=Path(cache_folder or default_cache_folder()), max_bytes=cache_bytes, fetch=limits)
    return _open(location, options, loading, cache, window=window, lanes=lanes, verify=verify)


def _limits(timeout_seconds: float) -> FetchOptions:
    """Return limits under which a silent server is named in the fetch's own error before the consumer gives up."""
    return FetchOptions(stall_seconds=min(30.0, timeout_seconds / 2), deadline_seconds=15 * timeout_seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CachePlan:
    """The cache for remote shards, which is made only where there are any."""

    folder: Path
    max_bytes: int
    fetch: FetchOptions
    """Limits of each fetch."""

    def make(self) -> ShardCache:
        """Return the cache, whose folder is made if it is missing."""
        return ShardCache(self.folder, max_bytes=self.max_bytes, options=self.fetch)


def _open(
    location: str | os.PathLike[str],
    options: ReadOptions,
    loading: Loading,
    cache: _CachePlan,
    *,
    window: int,
    lanes: int,
    verify: Verify,
) -> Stream:
    source = open_source(
        location,
        cache=cache.make,
        cache_folder=cache.folder,
        options=cache.fetch,
        resolution=stored_side(options.fields),
    )
    _check_fit(source, options)
    plan = ReadPlan(
        source=source,
        options=options,
        window=window,
        lanes=lanes,
        verify=verify,
        cache_folder=str(cache.folder),
        cache_bytes=cache.max_bytes,
        fetch=cache.fetch,
    )
    stream = Stream(plan, loading)
    if source.remote:
        _check_cache(source, stream.order, cache.max_bytes)
    return stream


def _check_fit(source: Source, options: ReadOptions) -> None:
    """Refuse a data set that cannot give what is asked for.

    Raises:
        DataError: resolution or classes do not fit.
    """
    manifest, place = source.manifest, source.location
    entries = {entry.name: (entry.height, entry.width) for entry in manifest.fields}
    for one in options.fields:
        if isinstance(one, Vector):
            _check_vector(source, one)
        if not isinstance(one, Picture):
            continue
        if manifest.fields and one.name not in entries:
            raise DataError(
                f"{place}: has no field {one.name!r}, it has {', '.join(entries)}; pack again, or rename it"
            )
        # Without a list of fields, a manifest knows the size of the only image, which is square.
        if manifest.fields or one.stands_alone:
            have = entries.get(one.name, (manifest.resolution, manifest.resolution))
            _check_size(place, have, one.stored_size)
    labels = [one for one in options.fields if isinstance(one, Label)]
    if len(labels) == 1:
        _check_classes(source, labels[0].classes)


def _check_vector(source: Source, one: Vector) -> None:
    """Refuse a vector of another name or length than those that the manifest lists; it need not list any.

    Raises:
        DataError: says what there is.
    """
    listed = {entry.name: entry.width for entry in source.manifest.fields if entry.is_vector}
    if listed and one.name not in listed:
        raise DataError(
            f"{source.location}: has no vector {one.name!r}, it has {', '.join(listed)}; pack again, or rename it"
        )
    if listed and listed[one.name] != one.dims:
        raise DataError(
            f"{source.location}: {one.name!r} has {listed[one.name]} numbers, not {one.dims}; "
            f"write Vector({one.name!r}, {listed[one.name]})"
        )


def _check_size(place: str, have: tuple[int, int], need: tuple[int, int]) -> None:
    """Refuse pictures that are not 1, 2, 4, ... times as large as needed; heights and widths in pixels.

    Raises:
        DataError: says both sizes.
    """
    try:
        reduction(have, need)
    except ValueError:
        raise DataError(
            f"{place}: pictures are {have[1]}x{have[0]}, not {need[1]}x{need[0]} or 2, 4, 8, ... times that; pack again"
        ) from None


def _check_classes(source: Source, classes: int) -> None:
    """Refuse a data set with other classes.

    Raises:
        DataError: its labels are unusable, missing, or of another number of classes.
    """
    manifest, place = source.manifest, source.location
    if unusable := manifest.source.get("unusable_label"):
        raise DataError(f"{place}: {classes} classes are asked for, but {unusable}; set classes=0 or mend it")
    if manifest.classes == 0:
        raise DataError(f"{place}: has no labels, {classes} classes are asked for; set classes=0 or pack labels")
    # Foreign shards have as many classes as their highest label says; samples with a label too high fail when read.
    if manifest.classes != classes and manifest.source.get("kind") != FOREIGN:
        raise DataError(f"{place}: has {manifest.classes} classes, {classes} are asked for")


def _check_cache(source: Source, order: GlobalOrder, cache_bytes: int) -> None:
    """Refuse a cache that would fetch the same shards again and again: two blocks must fit.

    Raises:
        DataError: says how many bytes are needed.
    """
    sizes = [shard.bytes for shard in source.manifest.shards]
    need = min(sum(sizes), 2 * order.max_block_shards() * max(sizes))
    if cache_bytes < need:
        raise DataError(
            f"{source.location}: the cache holds {cache_bytes:,} bytes, two shuffle windows of {order.window} samples "
            f"in {order.lanes} lane(s) need up to {need:,}; raise cache_bytes or lower window"
        )
