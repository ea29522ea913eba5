"""Batches by position, which workers fill ahead of the consumer and the consumer gets in order."""

from __future__ import annotations

import dataclasses
import logging
import time
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self

import numpy as np
import torch

from framework.data.errors import DataError
from framework.data.fields import INDEX_SUFFIX, Row
from framework.data.plan import GlobalOrder, rank_positions, rank_slices
from framework.data.prefetch import Prefetcher
from framework.data.process import ProcessLoader, ReadPlan
from framework.data.samples import Loaded, SampleReader, too_many_skipped
from framework.data.schema import to_json
from framework.data.workers import Job, Loader, Pulse, ThreadLoader, WorkerPool

_LOG = logging.getLogger(__name__)
_MAX_ROWS_PER_TASK = 32
WorkerKind = Literal["thread", "process"]
"""The kinds of loading workers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's samples of one global batch, micro-batch after micro-batch.

    Attributes:
        fields: every field of the n samples by name, rows (n, ...) on the host. Pictures are uint8 (n, C, H, W),
            contiguous, or in channels_last memory format if asked for; labels are int64 (n,). Of a ragged field come
            the entries of all samples one after the other, and under its name with `INDEX_SUFFIX` the row of each
            entry's sample, int64 (total,). All but ragged fields are pinned if asked for.
        keys: keys of the n samples.
        positions: positions of the n samples.
        skipped: one text per sample that could not be used and was replaced.
        micro_sizes: samples per micro-batch; they sum to n.
        wait_seconds: time that the consumer waited for this batch.
    """

    fields: dict[str, torch.Tensor]
    keys: list[str]
    positions: list[int]
    skipped: list[str]
    micro_sizes: list[int]
    wait_seconds: float

    @property
    def images(self) -> torch.Tensor:
        """The first picture of the samples: pixels from 0 to 255, uint8 (n, C, H, W).

        Raises:
            DataError: they have none.
        """
        picture = next((values for values in self.fields.values() if values.ndim == 4), None)
        if picture is None:
            raise DataError(f"the samples have no picture, only {', '.join(self.fields)}")
        return picture

    @property
    def labels(self) -> torch.Tensor:
        """The field of the usual name: class numbers, int64 (n,); 0 without classes."""
        labels = self.fields.get("label")
        return torch.zeros(len(self.keys), dtype=torch.int64) if labels is None else labels

    def part(self, rows: slice) -> dict[str, torch.Tensor]:
        """Return the fields of some rows; the index of a ragged field begins at 0 again."""
        start, stop, step = rows.indices(len(self.keys))
        assert step == 1, "a micro-batch has consecutive rows"
        found: dict[str, torch.Tensor] = {}
        for name, values in self.fields.items():
            index = self.fields.get(name + INDEX_SUFFIX)
            if index is not None:
                first, last = torch.searchsorted(index, torch.tensor([start, stop])).tolist()
                found |= {name: values[first:last], name + INDEX_SUFFIX: index[first:last] - start}
            elif name not in found:
                found[name] = values[start:stop]
        return found


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
    loop, and it waits for them: half the throughput beside small steps. Threads start at once, and they load fields of
    the user's own classes, which another process would have to import."""
    prefetch_batches: int = 4
    """Number of batches loaded ahead."""
    pin_memory: bool = False
    """Put rows into page-locked memory, for asynchronous copies to a GPU."""
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

    @classmethod
    def checked(
        cls, start: int, *, batch_size: int, micro_batches: int, rank: int, world: int, stop: int | None
    ) -> ReadPartition:
        """Return the partition of a stream that begins at a position; the arguments are those of `Stream.batches`.

        Raises:
            DataError: an argument is out of range.
        """
        rank_positions(start, batch_size=batch_size, micro_batches=micro_batches, rank=rank, world=world)
        return cls(batch_size=batch_size, micro_batches=micro_batches, rank=rank, world=world, stop=stop)

    def after(self, position: int) -> int:
        """Return the position at which the batch after the one that begins at `position` begins."""
        following = position + self.batch_size
        return following if self.stop is None else min(following, self.stop)

    def rows_per_task(self, workers: int) -> int:
        """Return the number of samples that a worker takes at a time, such that all workers fill the same batch."""
        rows = sum(len(micro) for micro in dataclasses.replace(self, stop=None).slices(0))
        return max(1, min(_MAX_ROWS_PER_TASK, -(-rows // max(1, workers))))


class Buffers:
    """Memory for one field, which is used again when the last tensor on it is gone.

    A new allocation per batch costs a page fault per 4 KiB: a tenth of the time that decoding into it takes.
    """

    def __init__(self, row: Row, *, pin_memory: bool) -> None:
        self._row, self._pin_memory = row, pin_memory
        self._free: deque[np.ndarray] = deque()

    def take(self, count: int) -> torch.Tensor:
        """Return an uninitialised tensor for so many samples."""
        shape, dtype = (count, *self._row.shape), self._row.dtype
        if self._pin_memory:  # torch keeps its own cache of pinned memory
            return torch.empty(shape, dtype=getattr(torch, dtype), pin_memory=True)
        memory = self._free.popleft() if self._free else np.empty(shape, dtype)
        if memory.shape != shape:
            memory = np.empty(shape, dtype)
        view = memory.view()
        # The tensor's storage owns the view, and all tensors on it own the storage; the memory outlives the view.
        weakref.finalize(view, self._free.append, memory).atexit = False
        return torch.from_numpy(view)


class BatchIterator(Iterator[Batch]):
    """An iterator over a rank's batches; also a context manager, which closes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Stop whatever is running for it."""


class Batches(BatchIterator):
    """The iterator over a rank's batches, made by `Stream.batches`; also a context manager, which stops the workers.

    They also stop at `close`, after an error, when the iterator is dropped, and when the interpreter ends.
    """

    def __init__(
        self, plan: ReadPlan, order: GlobalOrder, *, start: int, partition: ReadPartition, loading: Loading
    ) -> None:
        self._options, self._partition, self._loading = plan.options, partition, loading
        self._position, self._closed = start, False
        self._pending: deque[tuple[Job, dict[str, torch.Tensor], list[range]]] = deque()
        rows = plan.options.rows
        self._buffers = {name: Buffers(row, pin_memory=loading.pin_memory) for name, row in rows.items()}
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
            job, blocks, slices = self._pending.popleft()
            rows = self._pool.wait(job)
            skipped = [text for row in rows for text in row.skipped]
            self._count_skipped(skipped, position=job.positions[0] if job.positions else 0)
            self._warn_of_frames(rows)
        except BaseException:
            self.close()
            raise
        return Batch(
            fields=self._fields(blocks),
            keys=[row.key for row in rows],
            positions=list(job.positions),
            skipped=skipped,
            micro_sizes=[len(micro) for micro in slices],
            wait_seconds=time.monotonic() - begun,
        )

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
            blocks = {name: buffers.take(len(positions)) for name, buffers in self._buffers.items()}
            job = Job(positions, {name: block.numpy() for name, block in blocks.items()})
            if self._prefetcher:
                self._prefetcher.reached(self._position)
            self._pool.submit(job, rows_per_task=self._rows_per_task)
            self._pending.append((job, blocks, slices))
            self._position = self._partition.after(self._position)

    def _fields(self, blocks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the fields as a batch has them: pictures (n, C, H, W), ragged fields without unused memory."""
        fields = dict(blocks)
        for one in self._options.fields:
            block = blocks[one.name]
            if one.ragged:
                counts = blocks[one.name + INDEX_SUFFIX]
                used = torch.arange(block.shape[1]) < counts[:, None]
                fields[one.name] = block[used]
                fields[one.name + INDEX_SUFFIX] = torch.repeat_interleave(torch.arange(len(counts)), counts)
            elif self._options.channels_last and block.ndim == 4:
                fields[one.name] = block.permute(0, 3, 1, 2)
        return fields

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
        if loading.worker_kind == "process" and loading.workers and to_json(plan.options.fields) is not None:
            return ProcessLoader(plan, max_rows=rows_per_task, heartbeat=pulse.beat)
        return ThreadLoader(SampleReader(shards, order, plan.options), pulse.beat)

    pool = WorkerPool(make_loader, pulse=pulse, workers=loading.workers, timeout_seconds=loading.timeout_seconds)
    return pool, Prefetcher(shards, order, pulse.beat) if plan.source.remote else None


def _stop(pool: WorkerPool, prefetcher: Prefetcher | None) -> None:
    pool.close()
    if prefetcher:
        prefetcher.close()
