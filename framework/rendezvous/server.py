"""The table through which the machines of a job find each other: key -> bytes, kept by machine 0 behind the secret."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import threading
import time

from framework.rendezvous.wire import Message, StrangerError, greet

HANDSHAKE_SECONDS = 10.0
"""Time in which a connection must prove that it knows the secret."""
MAX_STRANGERS = 64
"""Number of connections at once that have not proved yet that they know the secret; more are closed."""
MAX_WARNINGS = 100
"""Number of lines about closed connections in a log, one per address and kind: nobody can fill the disk with them."""

_log = logging.getLogger(__name__)


class Table:
    """The values that the machines have written for each other; every operation is atomic and none waits."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def answer(self, request: Message) -> Message:
        """Do what a machine of the job asks, and return the answer.

        Raises:
            KeyError, TypeError, ValueError: the request is not one that `AuthenticatedStore` sends.
        """
        with self._lock:
            match request["do"]:
                case "set":
                    self._values |= {str(key): base64.b64decode(value) for key, value in request["values"].items()}
                    return {}
                case "get":
                    return {"values": [_text(self._values.get(key)) for key in request["keys"]]}
                case "add":
                    total = int(self._values.get(request["key"], b"0")) + int(request["amount"])
                    self._values[str(request["key"])] = str(total).encode()
                    return {"total": total}
                case "compare_set":
                    return {
                        "value": _text(self._compare_set(**{n: request[n] for n in ("key", "expected", "desired")}))
                    }
                case other:
                    raise ValueError(f"unknown operation {other!r}")

    def _compare_set(self, *, key: str, expected: str, desired: str) -> bytes:
        """Write as torch's TCPStore does: an expected value of no bytes stands for none. Return what is there then."""
        wanted, present = base64.b64decode(expected), self._values.get(key)
        if present is None and wanted:
            return wanted
        if present is not None and present != wanted:
            return present
        self._values[key] = base64.b64decode(desired)
        return self._values[key]


class Server:
    """Answers every machine of the job on a thread of its own, until the process ends.

    Args:
        port: port to listen on, on all interfaces; 0 for any free one.
        secret: secret of the job.

    Attributes:
        port: port that it listens on.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int, *, secret: bytes) -> None:
        self._secret, self._table = secret, Table()
        self._warned: set[tuple[str, type[OSError]]] = set()
        self._closed = False
        self._strangers = threading.BoundedSemaphore(MAX_STRANGERS)
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        self._listener = socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="rendezvous-server", daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those that exist stay until the other end closes them."""
        self._closed = True
        with contextlib.suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                _log.warning("rendezvous: a connection was not taken: %s", error)  # too many open files, for example
                time.sleep(0.1)
                continue
            if not self._strangers.acquire(blocking=False):
                connection.close()
                continue
            name = f"rendezvous-{address[0]}"
            threading.Thread(target=self._serve, args=(connection, address[0]), name=name, daemon=True).start()

    def _serve(self, connection: socket.socket, address: str) -> None:
        with connection:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                channel = greet(connection, self._secret, timeout_seconds=HANDSHAKE_SECONDS)
            except OSError as error:
                self._warn(address, error)
                return
            finally:
                self._strangers.release()
            try:
                while True:
                    channel.send(self._table.answer(channel.receive()))
            except StrangerError as error:
                self._warn(address, error)
            except OSError as error:
                _log.debug("rendezvous: %s has gone: %s", address, error)

    def _warn(self, address: str, error: OSError) -> None:
        kind = (address, type(error))  # a broken connection must not hide a later warning of a stranger
        if kind not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(kind)
            _log.warning("rendezvous: a connection from %s was closed: %s", address, error)


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
