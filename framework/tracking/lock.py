"""The lock of a run's journal, which its trainer holds for as long as it lives."""

from pathlib import Path

from framework.utils.errors import FrameworkError
from framework.utils.locks import ProcessLock, is_held

WRITER_LOCK_NAME = "journal.lock"

_held: set[Path] = set()


class WriterLock:
    """The right to write one run's journal; the system ends it when the process dies, however it dies.

    Args:
        path: the lock file.
        run_folder: the run's folder, for the messages.

    Raises:
        FrameworkError: this process or another one holds the lock.
    """

    def __init__(self, path: Path, *, run_folder: Path) -> None:
        self._path = path.resolve()
        if self._path in _held:
            raise FrameworkError(f"{run_folder} is already being written by this process: finish that tracker first")
        self._lock = ProcessLock(self._path)
        if not self._lock.take():
            raise FrameworkError(
                f"another process is training in {run_folder}: wait for it, stop it, or choose another folder (--out)"
            )
        _held.add(self._path)

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        _held.discard(self._path)
        self._lock.release()


def writer_is_alive(path: Path) -> bool:
    """Return whether some process holds the writer lock `path` (False where the file system has no locks)."""
    return path.resolve() in _held or is_held(path)
