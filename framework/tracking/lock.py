"""Who is writing this journal? A POSIX record lock held by the trainer for as long as it lives.

POSIX locks and not `flock`, because they are not inherited by `fork`: a data worker that outlives a killed trainer
would keep an flock, and the resumed run would find its own folder taken.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from framework.errors import FrameworkError

WRITER_LOCK_NAME = "journal.lock"

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_BUSY = (errno.EACCES, errno.EAGAIN)

# Closing *any* descriptor of a file drops this process's POSIX locks on it, so a lock file of ours is never reopened.
_held: set[Path] = set()


class WriterLock:
    """The right to write one run's journal; the system takes it back when the process dies, however it dies."""

    def __init__(self, path: Path, *, run_folder: Path) -> None:
        self._path = path.resolve()
        if self._path in _held:
            raise FrameworkError(f"{run_folder} is already being written by this process: finish that tracker first")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not _try_lock(self._fd):
            os.close(self._fd)
            raise FrameworkError(
                f"another process is training in {run_folder}: wait for it, stop it, or choose another folder (--out)"
            )
        _held.add(self._path)

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._path in _held:
            _held.discard(self._path)
            os.close(self._fd)


def writer_is_alive(path: Path) -> bool:
    """Return whether some process holds the writer lock `path` (False where the file system has no locks)."""
    if path.resolve() in _held:
        return True
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    with contextlib.closing(os.fdopen(fd, "r+b", buffering=0)):
        return not _try_lock(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        # Some cluster file systems are mounted without locks: training must still run there, unguarded.
        if error.errno not in _UNSUPPORTED:
            raise
    return True
