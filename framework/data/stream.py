"""The stream: batches of a data set by position, from any position on, the same for any number of ranks and workers.

stream = open_stream("/data/faces", resolution=256, classes=10, flip=True)
with stream.batches(1_280_000, batch_size=256, rank=rank, world=world) as batches:
    for batch in batches: ...
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from framework.data.batches import Batch, Batches, Loading, Share, WorkerKind
from framework.data.cache import ShardCache
from framework.data.errors import DataError
from framework.data.fetch import FetchOptions
from framework.data.manifest import Manifest
from framework.data.plan import GlobalOrder, rank_positions
from framework.data.process import ReadPlan
from framework.data.samples import OnBadSample, ReadOptions
from framework.data.shards import Verify
from framework.data.sources import FOREIGN, Source, default_cache_folder, open_source

__all__ = ["Batch", "Batches", "Stream", "open_stream"]


class Stream:
    """A data set in its global order. Opening reads the manifest; `batches` reads samples.

    Attributes:
        count: samples in an epoch.
        fingerprint: identity of the data, see `framework.data.manifest`.
        manifest: of the shards that are read.
        class_names: as in the manifest; may be empty.
    """

    def __init__(self, plan: ReadPlan, loading: Loading) -> None:
        self.manifest: Manifest = plan.source.manifest
        self.order: GlobalOrder = plan.make_order()
        self.count: int = self.order.count
        self.fingerprint: str = self.manifest.fingerprint
        self.class_names: tuple[str, ...] = self.manifest.class_names
        self._plan, self._loading = plan, loading

    def describe(self) -> dict[str, Any]:
        """What was opened and how, as plain values for the record of a run."""
        options, manifest = self._plan.options, self.manifest
        return {
            "location": self._plan.source.location,
            "name": manifest.name,
            "split": manifest.split,
            "count": self.count,
            "num_shards": len(manifest.shards),
            "bytes": sum(shard.bytes for shard in manifest.shards),
            "fingerprint": self.fingerprint,
            "stored_resolution": manifest.resolution,
            "resolution": options.resolution,
            "channels": options.channels,
            "classes": options.classes,
            "encoding": manifest.encoding,
            "seed": options.seed,
            "flip": options.flip,
            "window": self.order.window,
            "lanes": self.order.lanes,
            "on_bad_sample": options.on_bad_sample,
            "source": dict(manifest.source),
        }

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
        """This rank's part of the global batches from position `start` on; no sample before it is read.

        Args:
            start: first position (= images seen so far).
            batch_size: samples of all ranks together.
            micro_batches: see `framework.data.plan.rank_positions`.
            rank: of this process, 0 ... world - 1.
            world: number of processes.
            stop: end before this position: the last batch is cut there, and may be empty on some ranks. Without it
                the stream has no end; batches run across the ends of epochs.

        Raises:
            DataError: an argument out of range.
        """
        rank_positions(start, batch_size=batch_size, micro_batches=micro_batches, rank=rank, world=world)
        share = Share(batch_size=batch_size, micro_batches=micro_batches, rank=rank, world=world, stop=stop)
        return Batches(self._plan, self.order, start=start, share=share, loading=self._loading)


def open_stream(
    location: str | os.PathLike[str],
    *,
    resolution: int,
    channels: int = 3,
    classes: int = 0,
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

    Shards made by others (no manifest) are read once in full on first use, to learn what they hold.

    Args:
        location: see `framework.data.sources`.
        resolution: side in pixels of the pictures to deliver; pictures 2, 4, 8, ... times as large are scaled.
        channels: 1 (grey) or 3 (RGB); pictures are converted.
        classes: number of classes; 0 ignores labels.
        seed: of order and flips.
        flip: mirror half of the samples, a function of (seed, position).
        window: samples shuffled together; 0 for all of them. Shards of a window must fit into the cache twice.
        lanes: places of the data set read in turn; see `framework.data.plan`.
        cache_folder: for remote shards and for records of foreign ones; default `~/.cache/framework/shards`.
        cache_bytes: bound of the cache, shared by all processes that use the folder.
        on_bad_sample: "error" raises; "skip" takes the next sample of the same block instead, logs and counts.
        max_skipped: samples skipped in an epoch (by this rank) after which "skip" raises, too.
        workers: loading threads or processes of this rank; 0 loads in the consumer.
        worker_kind: "process" or "thread". Both cost the same CPU time, but threads wait for the interpreter lock of a
            busy training loop (and it for them): half the throughput beside small steps. Threads start at once.
        prefetch_batches: batches loaded ahead.
        pin_memory: put images into page-locked memory, for asynchronous copies to a GPU.
        channels_last: images in torch's channels_last memory format (the shape stays (n, C, H, W)): saves the tenth of
            the CPU time that sorting colours into planes takes; a GPU does that for nothing.
        timeout_seconds: longest silence of a worker or a server.
        verify: check of local shards on first use, "size" or "sha256". Remote ones are always hashed as they arrive.
        fetch: limits for remote shards; the default follows `timeout_seconds`.

    Raises:
        DataError: what is there does not fit what is asked.
        ManifestError, ShardError: what is there is damaged.
    """
    loading = Loading(
        workers=workers,
        worker_kind=worker_kind,
        prefetch_batches=prefetch_batches,
        pin_memory=pin_memory,
        timeout_seconds=timeout_seconds,
    )
    options = ReadOptions(
        resolution=resolution,
        channels=channels,
        classes=classes,
        seed=seed,
        flip=flip,
        on_bad_sample=on_bad_sample,
        max_skipped=max_skipped,
        channels_last=channels_last,
    )
    # A server's silence must end in the fetch's own error, which names it, before the consumer's patience does.
    limits = fetch or FetchOptions(stall_seconds=min(30.0, timeout_seconds / 2), deadline_seconds=15 * timeout_seconds)
    folder = Path(cache_folder) if cache_folder else default_cache_folder()

    def cache() -> ShardCache:
        return ShardCache(folder, max_bytes=cache_bytes, options=limits)

    source = open_source(location, cache=cache, cache_folder=folder, options=limits, resolution=resolution)
    _check_fit(source, options)
    plan = ReadPlan(
        source=source,
        options=options,
        window=window,
        lanes=lanes,
        verify=verify,
        cache_folder=str(folder),
        cache_bytes=cache_bytes,
        fetch=limits,
    )
    stream = Stream(plan, loading)
    if source.remote:
        _check_cache(source, stream.order, cache_bytes)
    return stream


def _check_fit(source: Source, options: ReadOptions) -> None:
    """Refuse a data set that cannot give what is asked."""
    manifest, place = source.manifest, source.location
    factor = manifest.resolution // options.resolution
    if factor * options.resolution != manifest.resolution or factor.bit_count() != 1:
        have, need = manifest.resolution, options.resolution
        raise DataError(
            f"{place}: pictures are {have}x{have}, not {need}x{need} or 2, 4, 8, ... times that; pack again"
        )
    if options.classes == 0:
        return
    if unusable := manifest.source.get("unusable_label"):
        raise DataError(f"{place}: {options.classes} classes are asked for, but {unusable}; set classes=0 or mend it")
    if manifest.classes == 0:
        raise DataError(
            f"{place}: has no labels, {options.classes} classes are asked for; set classes=0 or pack labels"
        )
    # The classes of foreign shards are only the highest label seen; too high ones are errors of their samples.
    if manifest.classes != options.classes and manifest.source.get("kind") != FOREIGN:
        raise DataError(f"{place}: has {manifest.classes} classes, {options.classes} are asked for")


def _check_cache(source: Source, order: GlobalOrder, cache_bytes: int) -> None:
    """Refuse a cache that would fetch the same shards again and again: two blocks must fit."""
    sizes = [shard.bytes for shard in source.manifest.shards]
    need = min(sum(sizes), 2 * order.max_block_shards() * max(sizes))
    if cache_bytes < need:
        raise DataError(
            f"{source.location}: the cache holds {cache_bytes:,} bytes, two shuffle windows of {order.window} samples "
            f"in {order.lanes} lane(s) need up to {need:,}; raise cache_bytes or lower window"
        )
