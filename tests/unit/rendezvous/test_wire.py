"""Connections between machines of a job: who gets in, and what becomes of bytes that are not theirs."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from torch.distributed import DistStoreError, HashStore, PrefixStore, Store

from framework.rendezvous import server as server_module
from framework.rendezvous.server import Server
from framework.rendezvous.store import AuthenticatedStore
from framework.rendezvous.wire import MAX_MESSAGE_BYTES, Channel, StrangerError, greet, introduce

SECRET, OTHER = b"0123456789abcdef" * 2, b"fedcba9876543210" * 2


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(0, secret=SECRET)
    yield made
    made.close()


def client(server: Server, *, secret: bytes = SECRET, timeout_seconds: float = 10.0) -> AuthenticatedStore:
    return AuthenticatedStore("localhost", server.port, secret=secret, timeout_seconds=timeout_seconds)


@pytest.fixture
def store(server: Server) -> Iterator[AuthenticatedStore]:
    made = client(server)
    yield made
    made.close()


class Line:
    """The two ends of a connection and, between them, somebody who sees and decides what arrives."""

    def __init__(self) -> None:
        self.server_end, self.to_server = socket.socketpair()
        self.client_end, self.to_client = socket.socketpair()
        for end in self.ends:
            end.settimeout(10)

    @property
    def ends(self) -> tuple[socket.socket, ...]:
        return self.server_end, self.to_server, self.client_end, self.to_client

    def handshake(self) -> tuple[Channel, Channel]:
        """Let both ends prove themselves undisturbed; the server's and the client's channel."""
        made: list[Channel] = []
        thread = threading.Thread(target=lambda: made.append(greet(self.server_end, SECRET, timeout_seconds=10)))
        thread.start()
        other = threading.Thread(target=lambda: made.append(introduce(self.client_end, SECRET, timeout_seconds=10)))
        other.start()
        for source, to, size in (
            (self.to_server, self.to_client, 32),
            (self.to_client, self.to_server, 64),
            (self.to_server, self.to_client, 32),
        ):
            to.sendall(source.recv(size, socket.MSG_WAITALL))
        thread.join()
        other.join()
        served, introduced = sorted(made, key=lambda channel: channel._connection is self.client_end)
        return served, introduced

    def close(self) -> None:
        for end in self.ends:
            end.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def test_bytes_of_somebody_between_are_refused(line: Line) -> None:
    served, introduced = line.handshake()
    introduced.send({"do": "set", "values": {"key": "value"}})
    genuine = line.to_client.recv(1 << 16)
    line.to_server.sendall(genuine)
    assert served.receive() == {"do": "set", "values": {"key": "value"}}
    line.to_server.sendall(genuine)
    with pytest.raises(StrangerError, match="signature"):  # once more
        served.receive()


@pytest.mark.parametrize("place", [4, -1, -40])
def test_a_changed_byte_is_refused(line: Line, place: int) -> None:
    served, introduced = line.handshake()
    introduced.send({"do": "get", "keys": ["a"]})
    changed = bytearray(line.to_client.recv(1 << 16))
    changed[place] ^= 1
    line.to_server.sendall(changed)
    with pytest.raises(StrangerError, match="signature"):
        served.receive()


def test_messages_are_not_taken_back_by_their_sender_or_out_of_order(line: Line) -> None:
    served, introduced = line.handshake()
    introduced.send({"number": 0})
    first = line.to_client.recv(1 << 16)
    line.to_client.sendall(first)  # reflected
    with pytest.raises(StrangerError, match="signature"):
        introduced.receive()
    introduced.send({"number": 1})
    line.to_server.sendall(line.to_client.recv(1 << 16))  # without the first
    with pytest.raises(StrangerError, match="signature"):
        served.receive()


def test_a_length_is_checked_before_memory_is_taken(line: Line) -> None:
    served, _ = line.handshake()
    line.to_server.sendall((MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(StrangerError, match=f"{MAX_MESSAGE_BYTES + 1} bytes"):
        served.receive()


def test_an_old_handshake_opens_no_new_connection(server: Server) -> None:
    """What a machine of the job once said to prove itself is worth nothing against another nonce."""
    with socket.create_connection(("localhost", server.port), timeout=10) as stranger:
        nonce = stranger.recv(32, socket.MSG_WAITALL)
        answer = _proof_for(nonce)
        stranger.sendall(answer)
        assert len(stranger.recv(32, socket.MSG_WAITALL)) == 32, "fresh, it is taken"
    with socket.create_connection(("localhost", server.port), timeout=10) as stranger:
        assert len(stranger.recv(32, socket.MSG_WAITALL)) == 32
        stranger.sendall(answer)
        assert stranger.recv(1) == b"", "closed without a proof of the server"


def _proof_for(nonce: bytes) -> bytes:
    """What a machine of the job says to a server that sends this nonce."""
    near, far = socket.socketpair()

    def machine() -> None:
        with near, pytest.raises(OSError):
            introduce(near, SECRET, timeout_seconds=10)

    thread = threading.Thread(target=machine)
    thread.start()
    with far:
        far.sendall(nonce)
        answer = far.recv(64, socket.MSG_WAITALL)
    thread.join()
    return answer


def test_the_wrong_secret_is_refused_by_either_side(server: Server) -> None:
    with pytest.raises(StrangerError, match="does not take this machine's secret"):
        client(server, secret=OTHER)
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"\1" * 64)  # a server that knows nothing says anything
        with pytest.raises(StrangerError, match="server does not know"):
            introduce(near, SECRET, timeout_seconds=10)


def test_silent_strangers_keep_nobody_out_and_are_sent_away(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE_SECONDS", 0.5)
    with contextlib.ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(("localhost", server.port), timeout=10)) for _ in range(20)
        ]
        for stranger in strangers:
            stranger.sendall(b"x")  # a byte now and then does not prolong it
        machine = client(server)
        machine.set("key", b"value")
        assert machine.get("key") == b"value"
        for stranger in strangers:
            assert len(stranger.recv(32, socket.MSG_WAITALL)) == 32
            assert stranger.recv(1) == b""
        machine.set("key", b"later")
        machine.close()


def test_it_answers_as_the_store_of_torch_does(store: AuthenticatedStore) -> None:
    theirs, ours = HashStore(), store
    for one in (theirs, ours):
        one.set_timeout(timedelta(seconds=0.2))
    assert [_story(PrefixStore("run", ours)), _story(ours)] == [_story(PrefixStore("run", theirs)), _story(theirs)]


def _story(store: Store) -> list[object]:
    """What a store says to a row of operations, each of which depends on the ones before."""
    said: list[object] = [store.check(["a"])]
    for expected, desired in (("", "1"), ("", "2"), ("1", "3"), ("2", "4")):
        said.append(store.compare_set("a", expected, desired))
    store.set("b", "x")
    store.multi_set(["c", "d"], ["y", "z"])  # type: ignore[attr-defined]
    said += [store.get("b"), store.multi_get(["c", "d"]), store.check(["a", "b", "c"]), store.check(["a", "e"])]
    said += [store.add("n", 2), store.add("n", 3), store.get("n")]
    for wait in (lambda: store.get("e"), lambda: store.wait(["a", "e"], timedelta(seconds=0.1))):
        with pytest.raises(DistStoreError):
            wait()
    store.wait(["a", "c"])
    return said


def test_a_wait_of_one_thread_does_not_hold_up_another(store: AuthenticatedStore) -> None:
    store.set_timeout(timedelta(seconds=30))
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(store.get("late")))
    thread.start()
    time.sleep(0.1)
    store.set("late", b"value")
    thread.join()
    assert got == [b"value"]


def test_a_lost_server_is_an_error_and_no_later_answer_is_taken(server: Server, store: AuthenticatedStore) -> None:
    store._connection.shutdown(socket.SHUT_RDWR)
    for _ in range(2):
        with pytest.raises(DistStoreError, match="does not answer"):
            store.add("n", 1)
