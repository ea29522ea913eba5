"""A TCP proxy that misbehaves on command, to stand between an upload process and a real server."""

import asyncio
import contextlib
import itertools
import os
import threading
from types import TracebackType

from framework.tracking.server import free_port

_numbers = itertools.count()

CHUNK_BYTES = 1 << 16


class FaultProxy:
    """Forwards 127.0.0.1:`port` to `upstream_port`, in a thread of its own.

    `mode` may be changed at any time:
        up      forward;
        down    nobody listens, and open connections are reset;
        slow    each request waits `delay_seconds` before it is passed on;
        hole    connections are accepted and never answered;
        error   each request is answered by 503.
    """

    def __init__(self, upstream_port: int, *, mode: str = "up", delay_seconds: float = 2.0) -> None:
        self.delay_seconds = delay_seconds
        self.num_requests = 0
        self._upstream_port = upstream_port
        self._mode = mode
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        # Below the ports that the system gives to connections: it stays ours while nothing listens on it.
        self.port = free_port(20_000 + (os.getpid() + 50 * next(_numbers)) % 10_000)
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self.mode = self._mode
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mode = "down"
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        asyncio.run_coroutine_threadsafe(self._switch(mode), self._loop).result(timeout=10)

    async def _switch(self, mode: str) -> None:
        self._mode = mode
        if mode == "down":
            if self._listener:
                self._listener.close()
                self._listener = None
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        elif self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        answered = asyncio.Event()
        answered.set()
        answers = asyncio.create_task(self._pass_answers(up_reader, writer, answered))
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                begins = answered.is_set()
                answered.clear()
                self.num_requests += begins
                if self._mode == "hole":
                    continue
                if self._mode == "error":
                    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    await writer.drain()
                    return
                if self._mode == "slow" and begins:
                    await asyncio.sleep(self.delay_seconds)
                up_writer.write(chunk)
                await up_writer.drain()
        finally:
            answers.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await answers
            up_writer.transport.abort()

    async def _pass_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: asyncio.Event
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self._mode != "hole":
                writer.write(chunk)
                await writer.drain()
            answered.set()
        writer.transport.abort()
