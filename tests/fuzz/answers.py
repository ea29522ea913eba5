"""Answers of an HTTP server: manifest, index and shard come over a socket, with any head, body and end.

A file of the reader is the whole answer, so that all bytes can be damaged; the server sends it and closes.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from framework.data.fetch import FetchOptions
from framework.data.stream import open_stream
from tests.fuzz.containers import index_edited
from tests.fuzz.mutation import Mutator, damaged, json_edited
from tests.fuzz.reader import Reader
from tests.fuzz.reader import Target as File
from tests.unit.data.stream_helpers import make_set

SIDE, CLASSES = 16, 3
_MANIFEST, _INDEX, _SHARD = "manifest.json", "train-000000.idx", "train-000000.tar"
_RESUMED = "resumed"
_PATIENT = FetchOptions()
_LIMITS = FetchOptions(stall_seconds=0.15, deadline_seconds=0.3, retries=1, backoff_seconds=0)
_ENDLESS, _HELD = b"X-Then: endless", b"X-Then: held"
"""What the server does after the answer's bytes: it repeats the last ones without end, or keeps the connection."""
_NUMBERS = (b"", b"0", b"1", b"-5", b"+5", b"5, 5", b"abc", b"1e3", b"0x10", b"\xb2", b"1_0", b"9" * 17, b"9" * 5000,
            b"%d" % 2**25, b"%d" % 2**63, b"\0")  # fmt: skip
_STATUS = (b"HTTP/1.1 100 C", b"HTTP/1.1 101 S", b"HTTP/1.1 204 N", b"HTTP/1.1 206 P", b"HTTP/1.1 301 M",
           b"HTTP/1.1 302 F", b"HTTP/1.1 304 N", b"HTTP/1.1 308 P", b"HTTP/1.1 401 U", b"HTTP/1.1 404 N",
           b"HTTP/1.1 407 P", b"HTTP/1.1 416 R", b"HTTP/1.1 500 \x1b[2J", b"HTTP/1.1 999 X", b"HTTP/1.1 abc X",
           b"HTTP/1.1 -1 X", b"HTTP/9.9 200 OK", b"HTTP/0.9 200 OK", b"ICY 200 OK", b"200", b"",
           b"x" * 70_000)  # fmt: skip
_PLACES = (b"manifest.json", b"/a/train-000000.tar", b"/nothing", b"?", b"", b"#", b"http://127.0.0.1:1/a",
           b"http://127.0.0.1:99999/a", b"http://[::1/a", b"http://127.0.0.1:x/", b"https://127.0.0.1:1/a",
           b"file:///etc/hostname", b"ftp://127.0.0.1/a", b"data:,x", b"\xff\xfe", b"/\xc3\xa9 \t", b"http:///",
           b"//", b"/" + b"a" * 60_000, b"javascript:x", b"http://u:p@127.0.0.1:1/")  # fmt: skip
_HEADERS = (b"Content-Encoding: gzip", b"Connection: keep-alive", b"Connection: close", b"ETag: \xff", b"ETag: W/\"1\"",
            b"ETag: \"" + b"a" * 60_000 + b"\"", b"ETag: \"a\0b\"", b"Last-Modified: never", b": x", b"x", b" x: y",
            b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 7", b"Transfer-Encoding: gzip, chunked",
            b"Content-Range: bytes 0-9/9", b"Set-Cookie: a=b", b"Content-Type: " + b";" * 5000)  # fmt: skip
_CHUNKS = (b"0", b"-1", b"+5", b"5;x", b"ffffffff", b"f" * 16, b"f" * 5000, b"x", b"", b" 5 ", b"1_0", b"5")


def _answer(body: bytes, *, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    head = [status, b"Content-Type: text/plain", b'ETag: "1"', b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def head_edited(random: Random, data: bytes) -> bytes:
    """Another status, length, range, place or encoding; headers added, repeated and lost; an end that never comes."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        what = random.randrange(10)
        if what == 0:
            status = random.choice(_STATUS)
        elif what == 1:
            headers = [header for header in headers if not header.startswith(b"Content-Length")]
            headers += [b"Content-Length: " + random.choice(_NUMBERS)] * random.choice((0, 1, 1, 2))
        elif what == 2:
            status, first = b"HTTP/1.1 206 Partial Content", random.choice((*_NUMBERS, b"0", b"100"))
            headers.append(b"Content-Range: " + random.choice((b"bytes ", b"", b"lines ")) + first + b"-9/9")
        elif what == 3:
            status = random.choice((b"HTTP/1.1 301 M", b"HTTP/1.1 302 F", b"HTTP/1.1 307 T", b"HTTP/1.1 308 P"))
            headers.append(random.choice((b"Location: ", b"URI: ")) + random.choice(_PLACES))
        elif what == 4:
            headers.insert(random.randrange(len(headers) + 1), random.choice(_HEADERS))
        elif what == 5 and headers:
            del headers[random.randrange(len(headers))]
        elif what == 6:
            headers += [b"X-%d: y" % number for number in range(random.choice((90, 101, 3000)))]
        elif what == 7:
            headers.append(b"Transfer-Encoding: chunked")
            body = _chunked(random, body)
        elif what == 8:
            body = body[: random.randrange(len(body) + 1)]  # the end comes early
        elif random.random() < 0.15:
            headers.append(random.choice((_ENDLESS, _ENDLESS, _HELD)))
            headers = [header for header in headers if not header.startswith(b"Content-Length")]
    return b"\r\n".join((status, *headers)) + random.choice((b"\r\n\r\n",) * 8 + (b"\r\n", b"\n\n", b"")) + body


def _chunked(random: Random, body: bytes) -> bytes:
    """The body in chunks (RFC 9112, section 7.1), one of which may lie about itself, and trailers."""
    place = random.randrange(len(body) + 1)
    parts = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:place], body[place:]) if part]
    if random.random() < 0.7:
        parts.insert(random.randrange(len(parts) + 1), random.choice(_CHUNKS) + b"\r\nabcde\r\n")
    return b"".join(parts) + b"0\r\n" + b"X: y\r\n" * random.choice((0, 0, 1, 5000)) + random.choice((b"\r\n", b""))


def _body_edited(edit: Mutator) -> Mutator:
    """Another body, of which the head tells the truth."""
    return lambda random, data: _answer(edit(random, data.partition(b"\r\n\r\n")[2]))


def _announced(random: Random, data: bytes) -> bytes:
    """Heads before the answer's own: early hints, which may never end."""
    if random.random() < 0.015:
        return b"HTTP/1.1 100 Continue\r\n" + _ENDLESS + b"\r\n\r\n"
    return b"HTTP/1.1 %d X\r\n\r\n" % random.choice((100, 102, 103)) * random.choice((1, 2, 50)) + data


def _make(folder: Path) -> None:
    make_set(folder / "set", sizes=(3,), side=SIDE, classes=CLASSES)
    (folder / "a").mkdir()
    for name in (_MANIFEST, _INDEX, _SHARD):
        (folder / "a" / name).write_bytes(_answer((folder / "set" / name).read_bytes()))


def _make_cut(folder: Path) -> None:
    """The shard's first answer ends early, and what asks for the rest gets it: `@...@` are the numbers asked for."""
    _make(folder)
    whole = (folder / "a" / _SHARD).read_bytes()
    (folder / "a" / _SHARD).write_bytes(whole[: len(whole) // 2])
    head = b'HTTP/1.1 206 P\r\nContent-Range: bytes @first@-@last@/@size@\r\nETag: "1"\r\nContent-Length: @left@'
    (folder / "a" / _RESUMED).write_bytes(head + b"\r\n\r\n@rest@")


def _read(folder: Path) -> Any:
    cache, begun = folder / "cache", folder / "begun"
    limits = _LIMITS if begun.exists() else _PATIENT  # the first time the answers are good, and must not fail
    begun.touch()
    shutil.rmtree(cache, ignore_errors=True)
    with _served(folder) as url:
        stream = open_stream(
            url, resolution=SIDE, classes=CLASSES, workers=0, cache_folder=cache, fetch=limits, cache_bytes=1 << 24
        )
        with stream.batches(0, batch_size=3, stop=min(stream.count, 6)) as batches:
            return [[batch.keys, batch.images, batch.labels] for batch in batches]


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of the folder `a`, while a thread answers one request after the other."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connections[:] = [server.accept()[0]]
                    with connections[0] as connection, contextlib.suppress(OSError):
                        _respond(connection, folder)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/a/"
        finally:
            # The kernel keeps what is sent to a client that has gone, and would let the sender wait for a minute.
            for one in (server, *connections):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            thread.join()


def _respond(connection: socket.socket, folder: Path) -> None:
    if not (request := connection.recv(1 << 17)):
        return
    path = folder / "a" / request.split(b" ", 2)[1].decode("ascii", "replace").rpartition("/")[2]
    asked = next((line for line in request.split(b"\r\n") if line.startswith(b"Range: bytes=")), b"")
    if asked and (resumed := folder / "a" / _RESUMED).is_file() and resumed.stat().st_size < 1 << 20:
        body = (folder / "set" / _SHARD).read_bytes()
        first = int(asked.removeprefix(b"Range: bytes=").rstrip(b"-"))
        numbers = {b"first": first, b"last": len(body) - 1, b"size": len(body), b"left": len(body) - first}
        answer = resumed.read_bytes()
        for name, number in numbers.items():
            answer = answer.replace(b"@%s@" % name, b"%d" % number)
        answer = answer.replace(b"@rest@", body[first:])
    elif not path.is_file():
        answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    else:
        with path.open("rb") as file:
            answer = file.read(1 << 20)
    connection.sendall(answer)
    if _ENDLESS in answer:
        part = answer * (1 + (1 << 16) // len(answer))
        while True:
            connection.sendall(part)
    if _HELD in answer:
        connection.recv(1)
    connection.shutdown(socket.SHUT_WR)


READERS = (
    Reader(
        name="HTTP, manifest and index",
        make=_make,
        read=_read,
        targets=(
            File(path=f"a/{_MANIFEST}", mutators=(damaged, head_edited, _announced, _body_edited(json_edited))),
            File(path=f"a/{_INDEX}", mutators=(damaged, head_edited, _announced, _body_edited(index_edited))),
        ),
    ),
    Reader(
        name="HTTP, shard",
        make=_make,
        read=_read,
        targets=(File(path=f"a/{_SHARD}", mutators=(damaged, head_edited, _announced, _body_edited(damaged))),),
        protected=True,
    ),
    Reader(
        name="HTTP, rest of a shard",
        make=_make_cut,
        read=_read,
        targets=(File(path=f"a/{_RESUMED}", mutators=(damaged, head_edited, _announced)),),
        protected=True,
    ),
)
