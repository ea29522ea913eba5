"""A loading worker in a process of its own: JSON lines over its pipes, rows through shared memory, nothing pickled.

It is a fresh interpreter (no fork: no copied locks, no copied device state) that imports neither torch nor webdataset.
It ends when its standard input does, so it cannot outlive the trainer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from framework.data import schema
from framework.data.cache import ShardCache
from framework.data.errors import DataError, ShardError, WorkerError
from framework.data.fetch import FetchOptions
from framework.data.fields import Row
from framework.data.plan import GlobalOrder
from framework.data.samples import Loaded, ReadOptions, SampleReader
from framework.data.shards import Shards, Verify
from framework.data.sources import Source
from framework.data.workers import Blocks, row_of

LEAVE = signal.SIGUSR2
"""Signal by which the trainer, and nobody else, ends a worker: schedulers use the others."""
_ALIVE_SECONDS = 1.0
_END_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadPlan:
    """Everything that reading a sample depends on; it can be sent to another process.

    Raises:
        DataError: `verify` is not one of its values.
    """

    source: Source
    options: ReadOptions
    window: int
    """Number of samples shuffled together; see `GlobalOrder`."""
    lanes: int
    """Number of places of the data set that are read in turn; see `GlobalOrder`."""
    verify: Verify
    """Check of local shards on first use; see `Shards`."""
    cache_folder: str
    cache_bytes: int
    """Bound of the cache."""
    fetch: FetchOptions
    """Limits of each fetch."""

    def __post_init__(self) -> None:
        if self.verify not in ("size", "sha256"):
            raise DataError(f"verify is {self.verify!r}, must be 'size' or 'sha256'")

    def make_order(self) -> GlobalOrder:
        """Return the global order of the source's samples."""
        sizes = [shard.count for shard in self.source.manifest.shards]
        return GlobalOrder(sizes, seed=self.options.seed, window=self.window, lanes=self.lanes)

    def make_shards(self, order: GlobalOrder, heartbeat: Callable[[], None]) -> Shards:
        """Return the shards, with room for the indexes of the blocks in use."""
        cache = None
        if self.source.remote:
            cache = ShardCache(self.cache_folder, max_bytes=self.cache_bytes, options=self.fetch, heartbeat=heartbeat)
        return Shards(self.source, cache=cache, verify=self.verify, max_indexes=2 * order.max_block_shards() + 8)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for `from_json` in another process."""
        plain = {name: getattr(self, name) for name in ("window", "lanes", "verify", "cache_folder", "cache_bytes")}
        # Fields are described by themselves, and everything else of the options is plain.
        options = {field.name: getattr(self.options, field.name) for field in dataclasses.fields(self.options)}
        described = schema.to_json(self.options.fields)
        assert described is not None, "fields of the user's own are loaded by threads"
        parts = {"options": options | {"fields": described}, "fetch": dataclasses.asdict(self.fetch)}
        return {"source": self.source.to_json(), **parts, **plain}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ReadPlan:
        """Return the plan that `to_json` described."""
        options = data["options"] | {"fields": schema.from_json(data["options"]["fields"])}
        parts = {"options": ReadOptions(**options), "fetch": FetchOptions(**data["fetch"])}
        return cls(**{**data, **parts, "source": Source.from_json(data["source"])})


class ProcessLoader:
    """The trainer's end of a worker process, which is a `Loader`.

    Args:
        plan: the plan of what to read.
        max_rows: largest number of samples of one `load`.
        heartbeat: a function that is called whenever the worker says that it is at work.

    Raises:
        DataError: there is no room for the memory that both processes use.
    """

    def __init__(self, plan: ReadPlan, *, max_rows: int, heartbeat: Callable[[], None]) -> None:
        self._heartbeat, self._stopped = heartbeat, False
        with _shared_file(_num_bytes(plan.options, max_rows)) as file:
            self._memory = mmap.mmap(file.fileno(), 0)
            root = str(Path(__file__).resolve().parents[2])
            self._process = subprocess.Popen(
                [sys.executable, "-m", "framework.data.process", str(file.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[file.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))},
                text=True,
                start_new_session=True,  # Ctrl-C is for the trainer, which then ends the worker
            )
        self._blocks = _blocks_in(self._memory, plan.options, max_rows)
        self._send({"plan": plan.to_json(), "rows": max_rows})

    def load(self, positions: Sequence[int], out: Blocks) -> list[Loaded]:
        """Fill `out`, blocks of n rows, with the samples of n positions; see `Loader`.

        Raises:
            DataError: what the worker raised, or a WorkerError if it died.
        """
        self._send({"positions": list(positions)})
        while "rows" not in (answer := self._receive()):
            if "alive" not in answer:
                raise _error_from(answer)
            self._heartbeat()
        for name, block in self._blocks.items():
            np.copyto(out[name], block[: len(positions)])
        return [Loaded(*row) for row in answer["rows"]]

    def interrupt(self) -> None:
        """End the process, after a moment in which it removes what it was fetching."""
        self._process.send_signal(LEAVE)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the process and close its pipes."""
        self.interrupt()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # a request was still in the buffer
                pipe.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> WorkerError:
        self._heartbeat()  # raises if it was ended on purpose
        status = self._process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        hint = "; out of memory? see the kernel's log" if status == -signal.SIGKILL else "; its error is printed above"
        return WorkerError(f"loading worker {self._process.pid} {how}{hint}")


def _num_bytes(options: ReadOptions, max_rows: int) -> int:
    """Return the size of the memory for so many samples: one block per field, each at a whole number of pages."""
    return sum(_block_bytes(row, max_rows) for row in options.rows.values())


def _block_bytes(row: Row, max_rows: int) -> int:
    num_bytes = max_rows * math.prod(row.shape) * np.dtype(row.dtype).itemsize
    return -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _blocks_in(memory: mmap.mmap, options: ReadOptions, max_rows: int) -> Blocks:
    """Return the blocks of the shared memory, the same in both processes."""
    blocks, offset = {}, 0
    for name, row in options.rows.items():
        count = max_rows * math.prod(row.shape)
        blocks[name] = np.frombuffer(memory, row.dtype, count, offset).reshape(max_rows, *row.shape)
        offset += _block_bytes(row, max_rows)
    return blocks


def _shared_file(size: int) -> IO[bytes]:
    """Return a file without a name, in memory where there is room; it ends with the last process that maps it."""
    for folder in ("/dev/shm", None):
        if folder is None or os.access(folder, os.W_OK):
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # the caller closes it
            try:
                os.posix_fallocate(file.fileno(), 0, size)  # a small /dev/shm would end this process by SIGBUS later
                return file
            except OSError:
                file.close()
    raise DataError(f"no room for {size:,} bytes shared with a loading worker, in /dev/shm or {tempfile.gettempdir()}")


def _error_from(answer: dict[str, Any]) -> DataError:
    if "shard" in answer:
        return ShardError(answer["shard"], answer["why"], key=answer["key"])
    return DataError(answer["error"]) if "error" in answer else WorkerError(answer["crash"])


def _serve(requests: IO[str], answers: IO[str], memory: int) -> None:
    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    # While a fetch runs, the trainer hears from time to time that the worker is alive.
    last = time.monotonic()

    def heartbeat() -> None:
        nonlocal last
        if time.monotonic() - last > _ALIVE_SECONDS:
            last = time.monotonic()
            say({"alive": True})

    # The first request is the plan; every other one is a list of positions.
    first = json.loads(requests.readline())
    plan = ReadPlan.from_json(first["plan"])
    order = plan.make_order()
    reader = SampleReader(plan.make_shards(order, heartbeat), order, plan.options)
    blocks = _blocks_in(mmap.mmap(memory, 0), plan.options, first["rows"])
    for line in requests:
        positions = json.loads(line)["positions"]
        try:
            loaded = [reader.load(p, row_of(blocks, n), heartbeat=heartbeat) for n, p in enumerate(positions)]
            say({"rows": loaded})
        except ShardError as error:
            say({"shard": error.shard, "why": error.why, "key": error.key})
        except DataError as error:
            say({"error": str(error)})
        except Exception as error:
            say({"crash": f"{type(error).__name__} in a loading worker: {error}"})
            raise


def _leave(number: int, frame: object) -> None:
    """End the worker by an exception, so that a fetch cleans up, and only once, so that nothing interrupts that."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit()


def main() -> None:
    """Run the worker process: `python -m framework.data.process <descriptor of the shared memory>`."""
    signal.signal(LEAVE, _leave)
    # A scheduler may ask every process of a job to stop; the trainer needs its workers until its step is done.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what a library prints must not become part of the protocol
        _serve(sys.stdin, answers, int(sys.argv[1]))


if __name__ == "__main__":
    main()
