"""The one error of this room: a checkpoint that cannot be written, trusted or read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from framework.utils.errors import FrameworkError

_CAUSES = {
    errno.ENOSPC: "the disk is full: free space there, or keep fewer checkpoints",
    errno.EDQUOT: "the disk quota is used up: free space there, or keep fewer checkpoints",
    errno.EFBIG: "a file would exceed the largest size allowed here (see `ulimit -f`)",
    errno.EROFS: "the file system is mounted read-only: choose another run folder",
    errno.EACCES: "permission denied: make the folder writable, or choose another run folder",
    errno.EPERM: "operation not permitted: make the folder writable, or choose another run folder",
    errno.ENOENT: "a file or folder vanished: is another job writing to the same run folder?",
    errno.ESTALE: "the shared file system lost the file: check the mount",
}


class CheckpointError(FrameworkError):
    """A checkpoint is missing, damaged, or could not be written; the message names the file and the remedy."""


def explain(error: OSError, *, doing: str, path: Path | None = None) -> CheckpointError:
    """Return the error for one of the operating system: what was being done, where, why it failed, and what to do."""
    where = error.filename if isinstance(error.filename, str) else path
    cause = _CAUSES.get(error.errno or 0, "check the file system")
    return CheckpointError(f"cannot {doing}{f' at {where}' if where else ''}: {error.strerror or error}; {cause}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give this file name to an `OSError` that has none, as those of writing and fsyncing do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
