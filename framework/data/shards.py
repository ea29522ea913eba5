"""The shards of a source as open files with their indexes: checked, cached, for all threads of a process."""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from framework.data.cache import ShardCache
from framework.data.errors import ManifestError, ShardError
from framework.data.fetch import NotFoundError, fetch_bytes
from framework.data.index import (
    MAKE_ANEW,
    IndexLines,
    format_index,
    index_shard,
    most_index_bytes,
    parse_index,
    read_index,
)
from framework.data.manifest import file_sha256
from framework.data.sources import Source
from framework.utils.bounded import open_descriptor
from framework.utils.errors import FrameworkError

Verify = Literal["size", "sha256"]
"""The checks of a local shard when it is first opened: its size, or all its bytes too."""


class Shards:
    """The shards of a source: opened, checked and indexed on demand. Several threads may use it at once.

    Args:
        source: the shards and their places.
        cache: the cache of a remote source, None for a local one.
        verify: check of a local shard when it is first opened. Shards that come through the cache are always hashed as
            they arrive.
        max_indexes: number of indexes kept in memory.
    """

    def __init__(self, source: Source, *, cache: ShardCache | None, verify: Verify, max_indexes: int) -> None:
        self.source, self._cache, self._verify = source, cache, verify
        self._max_indexes = max_indexes
        self._indexes: collections.OrderedDict[int, IndexLines] = collections.OrderedDict()
        self._verified: set[int] = set()
        self._failures: dict[int, ShardError] = {}
        self._lock, self._making = threading.Lock(), threading.Lock()

    def open(self, shard: int) -> int:
        """Return a file descriptor of a shard with the right bytes; the caller closes it.

        Raises:
            ShardError: it is missing, truncated or altered, or was not fetched. A shard that failed once fails at once
                afterwards: the policy "skip" would otherwise wait for a dead server once per sample.
        """
        with self._remembered(shard):
            return self._open(shard)

    def index(self, shard: int) -> IndexLines:
        """Return the index of a shard that has been opened.

        Raises:
            ShardError: see `open`, or the index is not usable.
        """
        with self._lock:
            if (lines := self._indexes.get(shard)) is not None:
                self._indexes.move_to_end(shard)
                return lines
        lines = self._read_index(shard)
        with self._lock:
            self._indexes[shard] = lines
            while len(self._indexes) > self._max_indexes:
                self._indexes.popitem(last=False)
        return lines

    def path(self, shard: int) -> Path:
        """Return the local file of a shard, fetched into the cache if it is remote.

        Raises:
            ShardError: see `open`.
        """
        with self._remembered(shard):
            return self._ensure(shard)

    def keep(self, shard: int) -> None:
        """Tell the cache that a shard is in use."""
        if self._cache:
            self._cache.touch(self._cache.path(self.source.manifest.shards[shard].sha256))

    @contextmanager
    def _remembered(self, shard: int) -> Iterator[None]:
        if failure := self._failures.get(shard):
            raise failure
        try:
            yield
        except ShardError as error:
            self._failures[shard] = error
            raise

    def _ensure(self, shard: int) -> Path:
        address, entry = self.source.addresses[shard], self.source.manifest.shards[shard]
        if self._cache is None:
            return Path(address)
        return self._cache.ensure(address, num_bytes=entry.bytes, sha256=entry.sha256)

    def _open(self, shard: int) -> int:
        address = self.source.addresses[shard]
        for _ in range(3):
            path = self._ensure(shard)
            try:
                descriptor = open_descriptor(path)
                break
            except FrameworkError as error:
                raise ShardError(address, str(error)) from None
            except OSError as error:
                if self._cache is None or not isinstance(error, FileNotFoundError):
                    raise ShardError(address, f"cannot be opened ({error.strerror})") from None
        else:
            raise ShardError(address, "was evicted three times before it was opened; give the cache more room")
        try:
            self._check(shard, descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check(self, shard: int, descriptor: int, path: Path) -> None:
        address, entry = self.source.addresses[shard], self.source.manifest.shards[shard]
        if (size := os.fstat(descriptor).st_size) != entry.bytes:
            raise ShardError(address, f"has {size} bytes, the manifest says {entry.bytes}: truncated or replaced")
        if self._verify == "sha256" and self._cache is None and shard not in self._verified:
            if file_sha256(path) != entry.sha256:
                raise ShardError(address, "the SHA-256 differs from the manifest's: damaged or replaced")
            self._verified.add(shard)

    def _read_index(self, shard: int) -> IndexLines:
        address, where = self.source.addresses[shard], self.source.indexes[shard]
        most_bytes = most_index_bytes(self.source.manifest.shards[shard].bytes)
        try:
            if self._cache is None:
                return self._agreeing(shard, read_index(where, most_bytes=most_bytes))
            kept = self._cache.index_path(self.source.manifest.shards[shard].sha256)
            with self._making:
                if kept.exists():
                    return self._agreeing(shard, read_index(kept, most_bytes=most_bytes))
                lines = self._agreeing(shard, self._make_index(where, self._ensure(shard), most_bytes=most_bytes))
                self._cache.keep_index(self.source.manifest.shards[shard].sha256, lines)
                return lines
        except ManifestError as error:
            raise ShardError(address, f"no usable index: {error}") from None

    def _agreeing(self, shard: int, lines: IndexLines) -> IndexLines:
        """Return the index if it can be that of the shard, since no hash in the manifest covers it.

        Headers are compared as samples are read; where local shards are hashed, the whole index is compared here.

        Raises:
            ShardError, ManifestError: it is that of another shard.
        """
        address, entry = self.source.addresses[shard], self.source.manifest.shards[shard]
        if len(lines) != entry.count:
            text = f"its index lists {len(lines)} samples, the manifest {entry.count}"
            raise ShardError(address, f"{text}; make both anew: `framework data index`")
        lines.check_order(num_bytes=entry.bytes)
        if self._verify == "sha256" and self._cache is None and list(lines) != index_shard(address):
            raise ShardError(address, f"its index does not describe it; {MAKE_ANEW}")
        return lines

    def _make_index(self, where: str, shard: Path, *, most_bytes: int) -> IndexLines:
        assert self._cache is not None
        if where:
            try:
                text = fetch_bytes(where, options=self._cache.options, most_bytes=most_bytes)
                return parse_index(text, origin=where)
            except NotFoundError:
                pass  # there is no index to fetch, so it is made from the shard
        return parse_index(format_index(index_shard(shard)), origin=shard)
