"""The local journal, `<run>/journal.jsonl`, which records all of a run; MLflow shows a copy of it.

One process (rank 0) writes one line per record straight into the page cache, so a killed trainer loses nothing;
`Journal.sync` (called by the tracker's housekeeping thread) brings it to the disk. No disk error reaches training:
records wait in a bounded ring in memory until the disk takes them again, and those that had to be given up are counted.
"""

import errno
import logging
import os
import threading
import time
from collections import deque
from pathlib import Path

from framework.tracking.lock import WRITER_LOCK_NAME, WriterLock
from framework.tracking.records import JOURNAL_NAME, JournalState, Record, encode, scan_journal
from framework.utils.errors import FrameworkError

MAX_PENDING_RECORDS = 20_000

_log = logging.getLogger(__name__)


class Journal:
    """The only writer of a run's journal; several threads of this process may call it.

    Attributes:
        state: the sum of the records so far, this process's own included.
        num_dropped: records given up because the disk stayed full for longer than the ring lasts.
        num_cut_bytes: length of the torn last line that was cut off at opening, 0 in the normal case.
    """

    def __init__(self, run_folder: Path, *, max_pending_records: int = MAX_PENDING_RECORDS) -> None:
        self.path = run_folder / JOURNAL_NAME
        self.num_dropped = 0
        self._max_pending_records = max_pending_records
        self._pending: deque[bytes] = deque()
        self._head_bytes = 0
        self._num_unreported = 0
        self._problem = ""
        self._mutex = threading.Lock()
        try:
            run_folder.mkdir(parents=True, exist_ok=True)
            self._writer_lock = WriterLock(run_folder / WRITER_LOCK_NAME, run_folder=run_folder)
        except OSError as error:
            raise FrameworkError(
                f"cannot write a journal into {run_folder}: {error}; use an account that may write there, or a copy"
            ) from error
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self.state: JournalState = scan_journal(self.path)
            self.num_cut_bytes = os.fstat(self._fd).st_size - self.state.size_bytes
            if self.num_cut_bytes:
                os.ftruncate(self._fd, self.state.size_bytes)
        except (OSError, FrameworkError) as error:
            self._writer_lock.release()
            raise FrameworkError(f"cannot write a journal into {run_folder}: {error}") from error

    def write(self, kind: str, fields: Record) -> None:
        """Append one record. An error of the disk is not raised: see `num_pending` and `num_dropped`.

        Fields must be plain JSON with finite numbers; the tracker makes sure of it.
        """
        time_ms = time.time_ns() // 1_000_000
        line = encode(kind, time_ms=time_ms, fields=fields)
        with self._mutex:
            self.state.observe({"kind": kind, "time_ms": time_ms, **fields})
            self._enqueue(line)
            self._drain()

    @property
    def num_pending(self) -> int:
        """The number of records that wait in memory for the disk."""
        return len(self._pending)

    def sync(self) -> None:
        """Write what waits and bring the file to the disk; errors are logged once and retried by the next call."""
        with self._mutex:
            if self._fd < 0:
                return
            self._drain()
            # The lock is not held while the disk works: training would wait for it. A second descriptor, so that a
            # `close` meanwhile does not leave us with a number that belongs to another file.
            fd = os.dup(self._fd)
        try:
            os.fsync(fd)
        except OSError as error:
            self._report(error)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Sync, close the file and let other processes write; a second call does nothing."""
        if self._fd < 0:
            return
        self.sync()
        with self._mutex:
            os.close(self._fd)
            self._fd = -1
        self._writer_lock.release()

    def _enqueue(self, line: bytes) -> None:
        if len(self._pending) >= self._max_pending_records:
            self._drain()
        if len(self._pending) >= self._max_pending_records:
            # The oldest goes, but never one that is half on the disk already: its rest must follow.
            del self._pending[1 if self._head_bytes else 0]
            self.num_dropped += 1
            self._num_unreported += 1
        self._pending.append(line)

    def _drain(self) -> None:
        while self._pending:
            line = self._pending[0]
            try:
                if self._fd < 0:
                    raise OSError(errno.EBADF, "the journal is closed")
                # A short write (the disk filled up in the middle) goes on where it stopped.
                self._head_bytes += os.write(self._fd, line[self._head_bytes :])
            except OSError as error:
                self._report(error)
                return
            if self._head_bytes < len(line):
                continue
            self._pending.popleft()
            self._head_bytes = 0
            if not self._pending:
                self._recovered()

    def _recovered(self) -> None:
        if self._problem:
            _log.warning("%s: writing again, %d records were lost meanwhile", self.path, self._num_unreported)
            self._problem = ""
        if self._num_unreported:
            self.state.num_dropped += self._num_unreported
            fields = {"count": self._num_unreported, "total": self.state.num_dropped}
            self._pending.append(encode("dropped", time_ms=time.time_ns() // 1_000_000, fields=fields))
            self._num_unreported = 0

    def _report(self, error: OSError) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            _log.warning(
                "%s: %s; up to %d records wait in memory, training goes on", self.path, error, self._max_pending_records
            )
