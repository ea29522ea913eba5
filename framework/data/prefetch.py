"""Brings the shards of the block in use and of the next one into the cache, ahead of the readers."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from framework.data.errors import DataError
from framework.data.plan import GlobalOrder
from framework.data.shards import Shards
from framework.data.workers import StoppedError

_LOG = logging.getLogger(__name__)
_JOIN_SECONDS = 5.0


class Prefetcher:
    """Threads that fetch shards; the readers wait for the lock of a shard that is being fetched.

    Args:
        shards: the shards, whose heartbeat raises StoppedError when the stream closes.
        order: the order of the samples, which tells the shards that come next.
        heartbeat: the same heartbeat.
        threads: number of threads.
    """

    def __init__(self, shards: Shards, order: GlobalOrder, heartbeat: Callable[[], None], *, threads: int = 2) -> None:
        self._shards, self._order, self._heartbeat = shards, order, heartbeat
        self._block: tuple[int, int] | None = None
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name="prefetch", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def reached(self, position: int) -> None:
        """Note that the stream has reached a position; in a new block, ask for its shards and those of the next one."""
        block = self._order.block_number(position)
        if block != self._block:
            self._block = block
            for shard in self._order.shards_near(position):
                self._queue.put(shard)

    def close(self) -> None:
        """End the threads; the heartbeat must already raise."""
        for _ in self._threads:
            self._queue.put(None)
        end = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        try:
            while (shard := self._queue.get()) is not None:
                self._heartbeat()
                try:
                    self._shards.path(shard)
                except DataError as error:
                    _LOG.debug("not prefetched, so the reader will raise it: %s", error)
        except StoppedError:
            return
