"""The table of machine 0 in the form that torch's elastic launcher takes: a `torch.distributed.Store`."""

from __future__ import annotations

import base64
import datetime
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from torch.distributed import DistStoreError, Store

from framework.rendezvous.wire import StrangerError, introduce

POLL_SECONDS = 0.05
"""Time between two questions for a key that has no value yet."""


class AuthenticatedStore(Store):
    """The client of a `Server`, with one connection for all threads of the process.

    Where torch's stores wait for a key, this one asks again every 50 ms, up to its time-out, so a wait of one thread
    does not keep the heartbeats of another from being sent.

    Args:
        host: name or address of the server.
        port: port of the server.
        secret: secret of the job.
        timeout_seconds: longest time to connect, and to wait for an answer; also for keys, until `set_timeout` sets
            another.

    Raises:
        ConnectionError: nobody listens there, or not a machine of this job.
        OSError: the server did not answer in time.
    """

    timeout: datetime.timedelta
    """Longest wait for keys: an attribute of torch's, which its type stubs leave out."""

    def __init__(self, host: str, port: int, *, secret: bytes, timeout_seconds: float) -> None:
        super().__init__()
        self.set_timeout(datetime.timedelta(seconds=timeout_seconds))
        self._lock = threading.Lock()
        self._connection = _connect(host, port, timeout_seconds=timeout_seconds)
        try:
            self._channel = introduce(self._connection, secret, timeout_seconds=timeout_seconds)
        except OSError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def set(self, key: str, value: str | bytes) -> None:
        """Write a value.

        Raises:
            DistStoreError: machine 0 does not answer; this holds for every method that asks it.
        """
        self.multi_set([key], [value])

    def get(self, key: str) -> bytes:
        """Wait for a value and return it; see `multi_get` for the errors."""
        return self.multi_get([key])[0]

    def multi_set(self, keys: Sequence[str], values: Sequence[str | bytes]) -> None:
        """Write several values at once."""
        self._ask(do="set", values={key: _text(value) for key, value in zip(keys, values, strict=True)})

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """Wait for several values and return them.

        Raises:
            DistStoreError: a key had no value in time, or machine 0 does not answer.
        """
        deadline = time.monotonic() + self.timeout.total_seconds()
        while None in (found := self._ask(do="get", keys=list(keys))["values"]):
            self._pause(deadline, [key for key, value in zip(keys, found, strict=True) if value is None])
        return [base64.b64decode(value) for value in found]

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, 0 before the first time, and return its new value."""
        return int(self._ask(do="add", key=key, amount=amount)["total"])

    def compare_set(self, key: str, expected: str | bytes, desired: str | bytes) -> bytes:
        """Write a value if the present one is as expected (no bytes: there is none), and return what is there then.

        Where there is no value and one was expected, the expected one is returned, as torch's TCPStore does.
        """
        answer = self._ask(do="compare_set", key=key, expected=_text(expected), desired=_text(desired))
        return base64.b64decode(answer["value"])

    def check(self, keys: Sequence[str]) -> bool:
        """Return whether all keys have values."""
        return None not in self._ask(do="get", keys=list(keys))["values"]

    def wait(self, keys: Sequence[str], timeout: datetime.timedelta | None = None) -> None:
        """Wait until all keys have values.

        Raises:
            DistStoreError: a key had no value in time, or machine 0 does not answer.
        """
        deadline = time.monotonic() + (timeout or self.timeout).total_seconds()
        while not self.check(keys):
            self._pause(deadline, keys)

    def has_extended_api(self) -> bool:
        """Return whether several keys can be read and written at once."""
        return True

    def _pause(self, deadline: float, keys: Sequence[str]) -> None:
        if time.monotonic() > deadline:
            raise DistStoreError(f"nobody has written {', '.join(keys)} in time")
        time.sleep(POLL_SECONDS)

    def _ask(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            try:
                self._channel.send(request)
                return self._channel.receive()
            except OSError as error:
                self._connection.close()  # a late answer must not be taken for that to the next request
                raise DistStoreError(f"the machine that the others meet at does not answer: {error}") from error


def _connect(host: str, port: int, *, timeout_seconds: float) -> socket.socket:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic()))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError as error:
            if time.monotonic() > deadline:
                raise StrangerError(f"nobody answers at {host}:{port}: {error}") from None
        time.sleep(0.2)


def _text(value: bytes | str) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
