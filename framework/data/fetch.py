"""Copies bytes from `http(s)://` and `pipe:` into a file, or raises an error in bounded time.

Every wait has an end: a silent source is given up after `stall_seconds`, everything together after `deadline_seconds`.
Interrupted downloads continue where they stopped if the server supports ranges (RFC 9110, section 14), otherwise from
the beginning. A request whose answer will not change (401, 403, 404, 410) is not repeated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import io
import os
import random
import selectors
import signal
import subprocess
import tempfile
import time
import urllib.error
from collections.abc import Callable, Iterator
from typing import BinaryIO

from framework.data.errors import DataError, ShardError
from framework.data.http import answered, content_length, content_start, plain, request_for, validator_of

PIPE = "pipe:"
"""Beginning of an address that is a shell command, whose standard output is the file."""
_CHUNK_BYTES = 1 << 20
_FINAL_STATUS = (400, 401, 403, 404, 405, 410, 451)
# Errors of a broken network or a broken command; other exceptions are mistakes in this code and pass through.
_TRANSIENT = (OSError, http.client.HTTPException)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """Limits of one fetch.

    Attributes:
        stall_seconds: longest silence of a source.
        deadline_seconds: longest time for one file, all tries and waits together.
        retries: number of further tries after the first.
        backoff_seconds: wait before the first retry; doubled each time, with jitter, at most 30 s.

    Raises:
        DataError: a limit is not positive.
    """

    stall_seconds: float = 30.0
    deadline_seconds: float = 1800.0
    retries: int = 5
    backoff_seconds: float = 0.5

    def __post_init__(self) -> None:
        if min(self.stall_seconds, self.deadline_seconds) <= 0 or min(self.retries, self.backoff_seconds) < 0:
            raise DataError(f"limits of a fetch must be positive: {self}")


class NotFoundError(ShardError):
    """The server says that there is no such file."""


class _Download:
    """A download under way: the bytes so far, their hash, and what is needed to continue."""

    def __init__(
        self,
        address: str,
        file: BinaryIO,
        options: FetchOptions,
        progress: Callable[[int], None],
        most_bytes: int | None,
    ) -> None:
        self.address, self.file, self.options, self.progress = address, file, options, progress
        self.most_bytes = most_bytes
        self.deadline = time.monotonic() + options.deadline_seconds
        self.validator: str | None = None
        self.restart()

    def restart(self) -> None:
        self.file.seek(0)
        self.num_bytes, self.hash = 0, hashlib.sha256()

    def copy(self, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            if self.most_bytes is not None and self.num_bytes + len(chunk) > self.most_bytes:
                raise self.too_long(self.num_bytes + len(chunk))
            self.progress(self.num_bytes + len(chunk))
            self.file.write(chunk)
            self.hash.update(chunk)
            self.num_bytes += len(chunk)
            self.in_time()

    def in_time(self) -> None:
        """Check the clock.

        Raises:
            TimeoutError: the deadline is over.
        """
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"slower than the deadline of {self.options.deadline_seconds:g} s")

    def once(self) -> None:
        if self.address.startswith(PIPE):
            self.restart()
            self.copy(_pipe_chunks(self.address.removeprefix(PIPE), self.options.stall_seconds))
        else:
            self._http()

    def _http(self) -> None:
        try:
            self._request()
        except (OSError, http.client.HTTPException):
            self.in_time()  # a connection that this side has cut ends in several ways, a reset among them
            raise

    def _request(self) -> None:
        request = request_for(self.address)
        if self.num_bytes and self.validator:
            request.add_header("Range", f"bytes={self.num_bytes}-")
            request.add_header("If-Range", self.validator)
        with answered(request, stall_seconds=self.options.stall_seconds, deadline=self.deadline) as response:
            start = content_start(response)
            if start != self.num_bytes:
                if start:
                    raise OSError(f"server sent bytes from {start}, asked for {self.num_bytes}")
                self.restart()
            self.validator = validator_of(response)
            length = content_length(response)
            total = None if length is None else self.num_bytes + length
            if total is not None and self.most_bytes is not None and total > self.most_bytes:
                raise self.too_long(total)
            self.copy(iter(lambda: response.read1(_CHUNK_BYTES), b""))
        if total is not None and self.num_bytes != total:
            self.in_time()  # then it was this side that ended the connection
            raise OSError(f"connection ended at byte {self.num_bytes} of {total}")

    def too_long(self, num_bytes: int) -> ShardError:
        return ShardError(self.address, f"has {num_bytes} bytes or more; at most {self.most_bytes} are read")


def _pipe_chunks(command: str, stall_seconds: float) -> Iterator[bytes]:
    """Yield the standard output of a shell command, which runs in its own process group: all of it can be ended."""
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            with process.stdout as stdout, selectors.DefaultSelector() as selector:
                selector.register(stdout, selectors.EVENT_READ)
                # Each read waits for a bounded time.
                while True:
                    if not selector.select(stall_seconds):
                        raise TimeoutError(f"no byte for {stall_seconds:g} s")
                    if not (chunk := os.read(stdout.fileno(), _CHUNK_BYTES)):
                        break
                    yield chunk
            # A command that failed may have ended its output early: the file is not whole.
            if process.wait(stall_seconds):
                stderr.seek(max(0, stderr.seek(0, io.SEEK_END) - 300))
                said = stderr.read().decode(errors="replace").strip()
                raise OSError(f"command ended with status {process.returncode}" + (f": {said}" if said else ""))
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"command closed its output but did not end within {stall_seconds:g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def fetch(
    address: str,
    file: BinaryIO,
    *,
    options: FetchOptions,
    most_bytes: int | None = None,
    progress: Callable[[int], None] = lambda num_bytes: None,
    check: Callable[[int, str], str | None] = lambda num_bytes, sha256: None,
) -> tuple[int, str]:
    """Copy the content of an address into a file, with retries, and return its size in bytes and SHA-256 in hex.

    Args:
        address: `http(s)://...` or `pipe:<shell command>`.
        file: a seekable file, opened for writing.
        options: limits.
        most_bytes: bound of the whole file; None where `progress` decides.
        progress: a function that is called with the number of bytes received so far, before they are written, and
            during the wait for the next try; what it raises ends the fetch.
        check: a function of size and SHA-256 (hex); a complaint that it returns makes this a failed try.

    Raises:
        NotFoundError: the server answered 404 or 410.
        ShardError: the file is longer than `most_bytes`, or was not fetched; names the address, the number of tries and
            the last reason.
    """
    download = _Download(address, file, options, progress, most_bytes)
    for attempt in range(options.retries + 1):
        try:
            download.once()
            # A whole file with wrong bytes is fetched anew from its beginning.
            if complaint := check(download.num_bytes, download.hash.hexdigest()):
                download.restart()
                download.validator = None
                raise OSError(complaint)
            file.truncate(download.num_bytes)
            return download.num_bytes, download.hash.hexdigest()
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP status {error.code} {plain(error.reason)}"
            # These answers will not change; others may, and are tried again.
            if error.code in (404, 410):
                raise NotFoundError(address, f"{reason}; check the location") from None
            if error.code in _FINAL_STATUS:
                raise ShardError(address, f"{reason}; check the location and the permission to read it") from None
            if error.code == 416:
                download.restart()
        except _TRANSIENT as error:
            reason = f"{type(error).__name__}: {plain(error)}"
        pause = min(30.0, options.backoff_seconds * 2**attempt) * random.uniform(0.5, 1.0)
        if attempt == options.retries or time.monotonic() + pause > download.deadline:
            break
        _pause(pause, lambda: progress(download.num_bytes))
    raise ShardError(address, f"not fetched after {attempt + 1} tries; the last one: {reason}")


def _pause(seconds: float, heartbeat: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while (rest := end - time.monotonic()) > 0:
        heartbeat()  # whoever waits for the file sees that it is still being fetched, and can end it
        time.sleep(min(0.2, rest))


def fetch_bytes(address: str, *, options: FetchOptions, most_bytes: int) -> bytes:
    """Return the content of a file of at most `most_bytes`.

    Raises:
        NotFoundError, ShardError: see `fetch`.
    """
    buffer = io.BytesIO()
    fetch(address, buffer, options=options, most_bytes=most_bytes)
    return buffer.getvalue()
