"""Batches by position, which workers fill ahead of the consumer and the consumer gets in order."""

from __future__ import annotations

import dataclasses
import logging
import time
import weakref
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self

import numpy as np
import torch

from framework.data.errors import DataError
from framework.data.plan import GlobalOrder, rank_slices
from framework.data.prefetch import Prefetcher
from framework.data.process import ProcessLoader, ReadPlan
from framework.data.samples import Loaded, SampleReader, too_many_skipped
from framework.data.workers import Job, Loader, Pulse, ThreadLoader, WorkerPool

_LOG = logging.getLogger(__name__)
_MAX_ROWS_PER_TASK = 32
WorkerKind = Literal["thread", "process"]
"""The kinds of loading workers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's samples of one global batch, micro-batch after micro-batch.

    Attributes:
        images: pixels from 0 to 255, uint8 (n, C, H, W), contiguous, or in channels_last memory format if asked for;
            pinned if asked for.
        labels: class numbers, int64 (n,); 0 without classes.
        keys: keys of the n samples.
        positions: positions of the n samples.
        skipped: one text per sample that could not be used and was replaced.
        micro_sizes: samples per micro-batch; they sum to n.
        wait_seconds: time that the consumer waited for this batch.
    """

    images: torch.Tensor
    labels: torch.Tensor
    keys: list[str]
    positions: list[int]
    skipped: list[str]
    micro_sizes: list[int]
    wait_seconds: float

    @property
    def fields(self) -> dict[str, torch.Tensor]:
        """Every field of the samples by name, rows (n, ...) on the host."""
        return {"image": self.images, "label": self.labels}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loading:
    """The way in which a process loads samples.

    Raises:
        DataError: a value that cannot work, or pinned memory without a CUDA device.
    """

    workers: int = 2
    """Number of loading threads or processes of this rank; 0 loads in the consumer's thread."""
    worker_kind: WorkerKind = "process"
    """Kind of the workers. Both cost the same CPU time, but threads wait for the interpreter lock of a busy training
    loop, and it waits for them: half the throughput beside small steps. Threads start at once."""
    prefetch_batches: int = 4
    """Number of batches loaded ahead."""
    pin_memory: bool = False
    """Put images into page-locked memory, for asynchronous copies to a GPU."""
    timeout_seconds: float = 120.0
    """Longest silence of a worker or a server."""

    def __post_init__(self) -> None:
        if self.workers < 0 or self.prefetch_batches < 0 or self.timeout_seconds <= 0:
            raise DataError(f"workers, prefetch_batches and timeout_seconds must not be negative: {self}")
        if self.worker_kind not in ("thread", "process"):
            raise DataError(f"worker_kind is {self.worker_kind!r}, must be 'thread' or 'process'")
        if self.pin_memory and not torch.cuda.is_available():
            raise DataError("pin_memory needs a CUDA device; set pin_memory=False")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadPartition:
    """The part of every global batch that a process reads; see `Stream.batches` for the fields."""

    batch_size: int
    micro_batches: int
    rank: int
    world: int
    stop: int | None

    def slices(self, position: int) -> list[range]:
        """Return this rank's positions of the batch that begins at a position, per micro-batch; [] at the end."""
        size = self.batch_size if self.stop is None else min(self.batch_size, self.stop - position)
        if size <= 0:
            return []
        return rank_slices(
            position, batch_size=size, micro_batches=self.micro_batches, rank=self.rank, world=self.world
        )

    def rows_per_task(self, workers: int) -> int:
        """Return the number of samples that a worker takes at a time, such that all workers fill the same batch."""
        rows = sum(len(micro) for micro in dataclasses.replace(self, stop=None).slices(0))
        return max(1, min(_MAX_ROWS_PER_TASK, -(-rows // max(1, workers))))


class Buffers:
    """Memory for images, which is used again when the last tensor on it is gone.

    A new allocation per batch costs a page fault per 4 KiB: a tenth of the time that decoding into it takes.
    """

    def __init__(self, *, pin_memory: bool) -> None:
        self._pin_memory = pin_memory
        self._free: deque[np.ndarray] = deque()

    def take(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return an uninitialised uint8 tensor of this shape."""
        if self._pin_memory:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)  # torch keeps its own cache of pinned memory
        memory = self._free.popleft() if self._free else np.empty(shape, np.uint8)
        if memory.shape != shape:
            memory = np.empty(shape, np.uint8)
        view = memory.view()
        # The tensor's storage owns the view, and all tensors on it own the storage; the memory outlives the view.
        weakref.finalize(view, self._free.append, memory).atexit = False
        return torch.from_numpy(view)


class Batches(Iterator[Batch]):
    """The iterator over a rank's batches, made by `Stream.batches`; also a context manager, which stops the workers.

    They also stop at `close`, after an error, when the iterator is dropped, and when the interpreter ends.
    """

    def __init__(
        self, plan: ReadPlan, order: GlobalOrder, *, start: int, partition: ReadPartition, loading: Loading
    ) -> None:
        self._options, self._partition, self._loading = plan.options, partition, loading
        self._position, self._closed = start, False
        self._pending: deque[tuple[Job, torch.Tensor, list[range]]] = deque()
        self._buffers = Buffers(pin_memory=loading.pin_memory)
        self._rows_per_task = partition.rows_per_task(loading.workers)
        self.num_skipped = 0
        self._epoch_samples, self._epoch, self._skipped_in_epoch = order.count, 0, 0
        self._reported: set[str] = set()
        self._warned_of_frames = False
        self._pool, self._prefetcher = _start(plan, order, loading, self._rows_per_task)
        self._finalizer = weakref.finalize(self, _stop, self._pool, self._prefetcher)

    def __next__(self) -> Batch:
        begun = time.monotonic()
        try:
            self._submit_ahead()
            if self._closed or not self._pending:
                raise StopIteration
            job, images, slices = self._pending.popleft()
            rows = self._pool.wait(job)
            skipped = [text for row in rows for text in row.skipped]
            self._count_skipped(skipped, position=job.positions[0] if job.positions else 0)
            self._warn_of_frames(rows)
        except BaseException:
            self.close()
            raise
        return Batch(
            images=images,
            labels=torch.tensor([row.label for row in rows], dtype=torch.int64),
            keys=[row.key for row in rows],
            positions=list(job.positions),
            skipped=skipped,
            micro_sizes=[len(micro) for micro in slices],
            wait_seconds=time.monotonic() - begun,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop and join the workers; the iterator is at its end then."""
        self._closed = True
        self._pending.clear()
        self._finalizer()

    def _submit_ahead(self) -> None:
        ahead = self._loading.prefetch_batches if self._loading.workers else 0
        # One batch for the consumer, and as many ahead as asked for.
        while not self._closed and len(self._pending) <= ahead and (slices := self._partition.slices(self._position)):
            positions = [position for micro in slices for position in micro]
            images = self._buffers.take((len(positions), *self._options.row_shape))
            job = Job(positions, images.numpy())
            if self._prefetcher:
                self._prefetcher.reached(self._position)
            self._pool.submit(job, rows_per_task=self._rows_per_task)
            if self._options.channels_last:
                images = images.permute(0, 3, 1, 2)
            self._pending.append((job, images, slices))
            stop = self._partition.stop
            self._position += self._partition.batch_size
            self._position = self._position if stop is None else min(self._position, stop)

    def _warn_of_frames(self, rows: list[Loaded]) -> None:
        if not self._warned_of_frames and (animated := [row.key for row in rows if row.animated]):
            self._warned_of_frames = True
            _LOG.warning("only the first frame or page of a picture is used; a sample with several: %s", animated[0])

    def _count_skipped(self, skipped: list[str], *, position: int) -> None:
        # The same damaged samples come again in every epoch: each is logged once, and the limit is that of an epoch.
        for text in skipped:
            if text not in self._reported:
                self._reported.add(text)
                _LOG.warning("skipped: %s", text)
        self.num_skipped += len(skipped)
        if position // self._epoch_samples != self._epoch:
            self._epoch, self._skipped_in_epoch = position // self._epoch_samples, 0
        self._skipped_in_epoch += len(skipped)
        if self._skipped_in_epoch > self._options.max_skipped:
            raise too_many_skipped(self._skipped_in_epoch, self._options.max_skipped, skipped[-1])


def _start(
    plan: ReadPlan, order: GlobalOrder, loading: Loading, rows_per_task: int
) -> tuple[WorkerPool, Prefetcher | None]:
    pulse = Pulse()
    shards = plan.make_shards(order, pulse.beat)

    def make_loader() -> Loader:
        if loading.worker_kind == "process" and loading.workers:
            return ProcessLoader(plan, max_rows=rows_per_task, heartbeat=pulse.beat)
        return ThreadLoader(SampleReader(shards, order, plan.options), pulse.beat)

    pool = WorkerPool(make_loader, pulse=pulse, workers=loading.workers, timeout_seconds=loading.timeout_seconds)
    return pool, Prefetcher(shards, order, pulse.beat) if plan.source.remote else None


def _stop(pool: WorkerPool, prefetcher: Prefetcher | None) -> None:
    pool.close()
    if prefetcher:
        prefetcher.close()
