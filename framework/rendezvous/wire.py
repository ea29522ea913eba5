"""A connection between two machines of a job: both prove that they know its secret, then every message is signed.

    server -> client   nonce                                       32 bytes
    client -> server   nonce, HMAC(secret, "client", both nonces)  64 bytes
    server -> client   HMAC(secret, "server", both nonces)         32 bytes

The key of the connection is computed from the nonces. A message is its length (4 bytes), JSON, and an HMAC over
direction, number and bytes, so what a stranger sends, repeats, reorders or reflects is not even parsed. All HMACs are
SHA-256 (RFC 2104), compared in constant time. Nothing is encrypted: the messages (addresses, ranks) are no secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import struct
import time
from typing import Any

Message = dict[str, Any]

MAX_MESSAGE_BYTES = 4 << 20
"""Size of the longest message, without its length and signature."""
_NONCE_BYTES = _PROOF_BYTES = 32
_LENGTH = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")


class StrangerError(ConnectionError):
    """The other end does not know the job's secret, or somebody else's bytes came over the connection."""


class Channel:
    """One end of a connection, after both ends have proved that they know the secret."""

    def __init__(self, connection: socket.socket, *, key: bytes, is_server: bool) -> None:
        self._connection, self._key = connection, key
        self._ours, self._theirs = (b"server", b"client") if is_server else (b"client", b"server")
        self._sent = self._received = 0

    def send(self, message: Message) -> None:
        """Sign and send a JSON object of at most `MAX_MESSAGE_BYTES` bytes.

        Raises:
            OSError: the connection has ended.
        """
        payload = json.dumps(message, separators=(",", ":")).encode()
        assert len(payload) <= MAX_MESSAGE_BYTES
        signature = _hmac(self._key, self._ours, _NUMBER.pack(self._sent), payload)
        self._sent += 1
        self._connection.sendall(_LENGTH.pack(len(payload)) + payload + signature)

    def receive(self) -> Message:
        """Wait for a message, at most for the connection's time-out, and return it.

        Raises:
            StrangerError: it is longer than allowed, or not signed.
            OSError: the connection has ended, or was silent for too long.
        """
        (size,) = _LENGTH.unpack(_read(self._connection, _LENGTH.size))
        if size > MAX_MESSAGE_BYTES:
            raise StrangerError(f"a message of {size} bytes")
        payload, signature = _read(self._connection, size), _read(self._connection, _PROOF_BYTES)
        if not hmac.compare_digest(signature, _hmac(self._key, self._theirs, _NUMBER.pack(self._received), payload)):
            raise StrangerError("a message without a valid signature")
        self._received += 1
        return json.loads(payload)


def greet(connection: socket.socket, secret: bytes, *, timeout_seconds: float) -> Channel:
    """Let a client prove that it knows the secret, prove it in turn, and return the server's end of the connection.

    Raises:
        StrangerError: it does not know the secret.
        OSError: it went away, or was silent for too long.
    """
    deadline = time.monotonic() + timeout_seconds
    nonce = secrets.token_bytes(_NONCE_BYTES)
    connection.settimeout(timeout_seconds)
    connection.sendall(nonce)
    answer = _read(connection, _NONCE_BYTES + _PROOF_BYTES, deadline=deadline)
    nonces = nonce + answer[:_NONCE_BYTES]
    if not hmac.compare_digest(answer[_NONCE_BYTES:], _hmac(secret, b"client", nonces)):
        raise StrangerError("a client does not know the job's secret")
    connection.sendall(_hmac(secret, b"server", nonces))
    connection.settimeout(None)
    return Channel(connection, key=_hmac(secret, b"connection", nonces), is_server=True)


def introduce(connection: socket.socket, secret: bytes, *, timeout_seconds: float) -> Channel:
    """Prove to a server that this machine knows the secret, let it do the same, and return the client's end.

    Raises:
        StrangerError: it does not know the secret, or refuses that of this machine.
        OSError: it went away, or was silent for too long.
    """
    deadline = time.monotonic() + timeout_seconds
    connection.settimeout(timeout_seconds)
    nonces = _read(connection, _NONCE_BYTES, deadline=deadline) + (own := secrets.token_bytes(_NONCE_BYTES))
    connection.sendall(own + _hmac(secret, b"client", nonces))
    try:
        proof = _read(connection, _PROOF_BYTES, deadline=deadline)
    except ConnectionError:
        raise StrangerError("the server does not take this machine's secret for the job's") from None
    if not hmac.compare_digest(proof, _hmac(secret, b"server", nonces)):
        raise StrangerError("the server does not know the job's secret")
    connection.settimeout(timeout_seconds)
    return Channel(connection, key=_hmac(secret, b"connection", nonces), is_server=False)


def _hmac(key: bytes, label: bytes, *parts: bytes) -> bytes:
    # Labels end with a zero and only the last part has no fixed length, so different inputs are different bytes.
    return hmac.digest(key, label + b"\0" + b"".join(parts), hashlib.sha256)


def _read(connection: socket.socket, size: int, *, deadline: float | None = None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connection.recv(min(size - len(data), 1 << 16))
        if not chunk:
            raise ConnectionError("the connection has ended")
        data += chunk
    return bytes(data)
