"""A folder of verified shards, bounded in size, for all processes of a machine.

    <sha256, 32 digits>.tar   .idx   a shard and its index; named by content, so equal base names cannot collide
    <digits>.part                    a fetch under way; its size is the room reserved for it
    <digits>.lock   cache.lock       locks (`filelock`, see `framework.utils.locks`)

A shard is fetched under its own lock, so one process fetches and the others wait. Room is reserved under `cache.lock`
before bytes arrive; the least recently used shards go first. A `.part` whose lock is free belongs to a dead process.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from framework.data.errors import DataError, ShardError
from framework.data.fetch import FetchOptions, fetch
from framework.data.index import SampleIndex, format_index
from framework.utils.atomic import write_atomically

_RESERVE_STEP_BYTES = 64 << 20  # for sources that do not say how much will come
_LOCK_POLL_SECONDS = 0.05


class ShardCache:
    """The cache that this module describes.

    Args:
        folder: folder of the cache, made if missing; several processes and data sets may use it.
        max_bytes: bound for shards, indexes and reservations together.
        options: limits of one fetch.
        heartbeat: a function that is called while something happens: bytes arrive, another process holds the lock.

    Raises:
        DataError: the folder cannot be made, or the bound is not positive.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        max_bytes: int,
        options: FetchOptions,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.max_bytes, self.options, self.heartbeat = Path(folder), max_bytes, options, heartbeat
        if max_bytes < 1:
            raise DataError(f"the cache's bound is {max_bytes} bytes, must be positive")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cache folder {self.folder}: cannot be made ({error.strerror}); name another") from None

    def ensure(self, address: str, *, num_bytes: int, sha256: str) -> Path:
        """Return the path of a shard with this content, fetched from `address` if it is not there.

        The file may be evicted at any time after the return: open it at once; an open file stays readable.

        Raises:
            ShardError: it was not fetched within the limits, or has other bytes than the manifest says.
            DataError: there is no room for it.
        """

        def check(found_bytes: int, found_sha256: str) -> str | None:
            if found_bytes != num_bytes:
                return f"got {found_bytes} bytes, the manifest says {num_bytes}"
            return None if found_sha256 == sha256 else "the SHA-256 differs from the manifest's"

        path = self.path(sha256)
        if self.touch(path):
            return path
        with self._locked(path, address):
            if not self.touch(path):
                self._fetch(address, path, num_bytes, check)
        return path

    @contextmanager
    def unknown(self, address: str) -> Iterator[tuple[Path, str]]:
        """Fetch a file of unknown content, and yield its path and its SHA-256 in hex.

        The file cannot be evicted inside the context; when the context ends without an error, it becomes a cached
        shard.

        Raises:
            ShardError: it was not fetched within the limits.
            DataError: there is no room for it.
        """
        name = self.folder / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.new"
        with self._locked(name, address):
            try:
                _, sha256 = self._fetch(address, name, None, lambda num_bytes, sha256: None)
                yield name, sha256
                self._publish(name, self.path(sha256))
            finally:
                name.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Return the path that a shard with this content has, if it is there."""
        return self.folder / f"{sha256[:32]}.tar"

    def index_path(self, sha256: str) -> Path:
        """Return the path that the index of such a shard has, if it is there; it is evicted with the shard."""
        return self.path(sha256).with_suffix(".idx")

    def keep_index(self, sha256: str, samples: Sequence[SampleIndex]) -> None:
        """Write the index of a shard into the cache, inside its bound.

        Raises:
            DataError: there is no room for it.
        """
        path, text = self.index_path(sha256), format_index(samples)
        self._when_there_is_room(len(text), path, lambda: write_atomically(path, text))

    def touch(self, path: Path) -> bool:
        """Mark a shard as used now, and return whether it is there."""
        with suppress(FileNotFoundError):
            os.utime(path)
            return True
        return False

    def _fetch(
        self, address: str, path: Path, num_bytes: int | None, check: Callable[[int, str], str | None]
    ) -> tuple[int, str]:
        part = path.with_suffix(".part")  # nobody else writes it: the shard's lock is held
        reserved = num_bytes or _RESERVE_STEP_BYTES
        try:
            self._reserve(part, reserved)
            with open(part, "r+b") as file:

                def progress(received: int) -> None:
                    nonlocal reserved
                    self.heartbeat()
                    if received > reserved:
                        if num_bytes:
                            raise ShardError(address, f"is longer than the manifest's {num_bytes} bytes")
                        reserved = received + _RESERVE_STEP_BYTES
                        self._reserve(part, reserved)

                result = fetch(address, file, options=self.options, progress=progress, check=check)
            self._publish(part, path)
            return result
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, path: Path, address: str) -> Iterator[None]:
        lock = FileLock(path.with_suffix(".lock"))
        # The holder may take its whole deadline and fail; then this process fetches.
        end = time.monotonic() + 2 * self.options.deadline_seconds
        while True:
            try:
                lock.acquire(timeout=1.0, poll_interval=_LOCK_POLL_SECONDS)
                break
            except Timeout:
                self.heartbeat()
                if time.monotonic() > end:
                    raise ShardError(address, f"another process holds {lock.lock_file} for too long") from None
        try:
            yield
        finally:
            lock.release()

    def _reserve(self, part: Path, need: int) -> None:
        """Make `need` bytes of room and mark them as taken: the .part file gets its size at once, as a sparse file."""

        def take() -> None:
            with open(part, "ab") as file:
                file.truncate(need)

        self._when_there_is_room(need, part, take)

    def _when_there_is_room(self, need: int, path: Path, take: Callable[[], object]) -> None:
        """Evict until `need` bytes fit, not counting `path`, and take them before another process can."""
        end = time.monotonic() + self.options.deadline_seconds
        while need <= self.max_bytes:
            with self._room():
                if self._evict(need, keep=path):
                    take()
                    return
            self.heartbeat()
            if time.monotonic() > end:
                break
            time.sleep(_LOCK_POLL_SECONDS)  # fetches of other processes hold the room
        raise DataError(f"cache {self.folder}: no room for {need} bytes in {self.max_bytes}; raise cache_bytes")

    def _room(self) -> FileLock:
        """Return the lock under which room is counted and taken and files are renamed; it is held only briefly."""
        return FileLock(self.folder / "cache.lock", timeout=self.options.deadline_seconds)

    def _publish(self, part: Path, path: Path) -> None:
        with self._room():  # whoever counts room sees the old name or the new one, not neither
            os.replace(part, path)

    def _evict(self, need: int, *, keep: Path) -> bool:
        # Room in use, reservations of living processes included.
        used, candidates = 0, []
        for path in self.folder.iterdir():
            if path.suffix == ".tmp":  # an index half written by a dead process: the others write under this lock
                path.unlink(missing_ok=True)
            if path == keep or path.suffix not in (".tar", ".idx", ".part", ".new"):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix in (".part", ".new") and self._is_stale(path):
                continue
            used += status.st_size
            if path.suffix == ".tar":
                candidates.append((status.st_mtime_ns, path))
        # Least recently used shards go first, each with its index.
        for _, path in sorted(candidates):
            if used + need <= self.max_bytes:
                break
            if path.with_suffix(".idx") == keep:
                continue
            for victim in (path, path.with_suffix(".idx")):
                with suppress(FileNotFoundError):
                    used -= victim.stat().st_size
                    victim.unlink()
        return used + need <= self.max_bytes

    def _is_stale(self, path: Path) -> bool:
        try:
            with FileLock(path.with_suffix(".lock"), timeout=0):
                path.unlink(missing_ok=True)
                return True
        except Timeout:
            return False
