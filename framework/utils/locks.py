"""Gives one process at a time the right to use something: run folders, uploads, packing and caches.

The mechanism is `filelock`, which uses flock. The system releases the lock however the process dies. A bare flock would
live on in a forked child, such as a data worker that outlives a killed trainer; filelock closes its descriptor there. A
POSIX record lock (lockf) ends at the first close of any descriptor of the file, and is of no use to a reader who may
not write. Between machines Linux carries flock to an NFS server. The lock file stays; it is made with the user's umask,
so that everybody who may write to the folder may lock it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_BUSY = (errno.EACCES, errno.EAGAIN)
_PATIENCE_SECONDS, _POLL_SECONDS = 0.3, 0.02
"""Time-out and interval of an attempt: `is_held` takes a shared lock for a moment, and must not look like an owner."""


class ProcessLock:
    """A lock on a file, for one process at a time; also a context manager, which releases it.

    Some cluster file systems are mounted without locks. There, taking the lock succeeds and guards nothing.

    Attributes:
        path: the locked file.
        guards: True if the lock keeps others out.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.guards = path, True
        self._lock = FileLock(
            path, timeout=_PATIENCE_SECONDS, poll_interval=_POLL_SECONDS, thread_local=False, fallback_to_soft=False
        )

    def take(self) -> bool:
        """Take the lock, and return whether that succeeded: another process may hold it.

        Raises:
            OSError: the file cannot be made or written.
        """
        make_file(self.path)
        try:
            self._lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.guards = False
        return True

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def make_file(path: Path) -> None:
    """Make an empty file with the permissions that the user's umask leaves, unless there is one."""
    if not path.exists():
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))


def is_held(path: Path) -> bool:
    """Return whether some process, this one included, holds the lock; False where the file system has no locks.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return True
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)
    return False
