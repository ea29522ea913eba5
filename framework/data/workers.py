"""Threads that fill batches, report errors and silence, and end when they are asked to."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from framework.data.errors import WorkerError
from framework.data.samples import Loaded, SampleReader

_JOIN_SECONDS = 3.0
_POLL_SECONDS = 0.5


Blocks = Mapping[str, np.ndarray]
"""Arrays of n samples by name, (n, ...); see `ReadOptions.rows`."""


def row_of(blocks: Blocks, number: int) -> dict[str, np.ndarray]:
    """Return the arrays of one sample, as views of the blocks."""
    return {name: block[number, ...] for name, block in blocks.items()}


class StoppedError(Exception):
    """The pool of a worker is being closed; raised inside the worker, it never reaches the consumer."""


class Pulse:
    """The sign of life of everything that works for one consumer, and the way to end it."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.stopping = threading.Event()

    def beat(self) -> None:
        """Note that work goes on.

        Raises:
            StoppedError: the consumer has left.
        """
        if self.stopping.is_set():
            raise StoppedError
        self.last = time.monotonic()


class Loader(Protocol):
    """The part of a worker thread that loads samples."""

    def load(self, positions: Sequence[int], out: Blocks) -> list[Loaded]:
        """Fill `out`, blocks of n rows, with the samples of n positions, and return what else is known of each.

        Raises:
            DataError: a sample cannot be used.
        """

    def interrupt(self) -> None:
        """Make a `load` end soon that another thread is running."""

    def close(self) -> None:
        """Free what the loader holds."""


class ThreadLoader:
    """Decodes in the worker thread itself; the decoders release the interpreter lock."""

    def __init__(self, reader: SampleReader, heartbeat: Callable[[], None]) -> None:
        self._reader, self._heartbeat = reader, heartbeat

    def load(self, positions: Sequence[int], out: Blocks) -> list[Loaded]:
        """Fill `out`, blocks of n rows, with the samples of n positions; see `Loader`."""
        rows = (row_of(out, number) for number in range(len(positions)))
        return [self._reader.load(p, row, heartbeat=self._heartbeat) for p, row in zip(positions, rows, strict=True)]

    def interrupt(self) -> None:
        """Do nothing: the heartbeat ends a `load`."""

    def close(self) -> None:
        """Close the files."""
        self._reader.close()


class Job:
    """A batch being filled: positions, the blocks to fill, and in the end one `Loaded` per row."""

    def __init__(self, positions: Sequence[int], out: Blocks) -> None:
        self.positions, self.out = positions, out
        self.rows: list[Loaded | None] = [None] * len(positions)
        self.missing = len(positions)
        self.error: Exception | None = None


class _Task(NamedTuple):
    job: Job
    begin: int
    end: int


class WorkerPool:
    """Worker threads, each with its own loader, which work on jobs in the order in which these come.

    Args:
        make_loader: a function that is called once per worker, in its thread.
        pulse: sign of life of the loaders while they work.
        workers: number of threads; 0 loads in `wait`, in the caller's thread.
        timeout_seconds: longest time without any sign of life before `wait` gives up.
    """

    def __init__(
        self, make_loader: Callable[[], Loader], *, pulse: Pulse, workers: int, timeout_seconds: float
    ) -> None:
        self._make_loader, self._pulse, self._timeout_seconds = make_loader, pulse, timeout_seconds
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._loaders: list[Loader] = []
        self._threads = [
            threading.Thread(target=self._work, name=f"stream-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, *, rows_per_task: int) -> None:
        """Hand a job to the workers, in tasks of so many rows."""
        bounds = [*range(0, len(job.positions), rows_per_task), len(job.positions)]
        for begin, end in itertools.pairwise(bounds):
            self._tasks.put(_Task(job, begin, end))

    def wait(self, job: Job) -> list[Loaded]:
        """Wait until a job is full, and return its rows.

        Raises:
            DataError: the first error of a worker, or a WorkerError if there was no sign of life for `timeout_seconds`.
        """
        if not self._threads:
            self._work_until(job)
        begun = time.monotonic()
        with self._changed:
            while job.missing and job.error is None:
                self._changed.wait(_POLL_SECONDS)
                if time.monotonic() - max(begun, self._pulse.last) > self._timeout_seconds:
                    first = next(p for p, row in zip(job.positions, job.rows, strict=True) if row is None)
                    raise WorkerError(
                        f"no sign of life from {len(self._threads)} loading workers for {self._timeout_seconds:g} s "
                        f"at position {first}; is the storage answering? (raise timeout_seconds if it is just slow)"
                    )
        if job.error is not None:
            raise job.error
        return [row for row in job.rows if row is not None]

    def close(self) -> None:
        """End and join the workers; a second call does no harm."""
        self._pulse.stopping.set()
        for loader in tuple(self._loaders):
            loader.interrupt()
        for _ in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            if thread is not threading.current_thread():
                # A thread in a system call that does not return (dead network storage) is left behind, as a daemon.
                thread.join(max(0.0, end - time.monotonic()))
        if not self._threads:
            while self._loaders:
                self._loaders.pop().close()

    def _work(self) -> None:
        loader: Loader | None = None
        with contextlib.suppress(StoppedError):
            while (task := self._tasks.get()) is not None and not self._pulse.stopping.is_set():
                try:
                    if loader is None:
                        loader = self._make_loader()
                        self._loaders.append(loader)
                    self._finish(task, loader.load(task.job.positions[task.begin : task.end], self._rows(task)))
                except StoppedError:
                    raise
                except Exception as error:
                    self._fail(task, error)
        if loader is not None:
            loader.close()

    def _work_until(self, job: Job) -> None:
        if not self._loaders:
            self._loaders.append(self._make_loader())
        while job.missing:
            task = self._tasks.get_nowait()
            assert task is not None
            self._finish(task, self._loaders[0].load(task.job.positions[task.begin : task.end], self._rows(task)))

    @staticmethod
    def _rows(task: _Task) -> Blocks:
        return {name: block[task.begin : task.end] for name, block in task.job.out.items()}

    def _finish(self, task: _Task, rows: Sequence[Loaded]) -> None:
        with self._changed:
            task.job.rows[task.begin : task.end] = rows
            task.job.missing -= len(rows)
            self._changed.notify_all()

    def _fail(self, task: _Task, error: Exception) -> None:
        with self._changed:
            task.job.error = task.job.error or error
            self._changed.notify_all()
