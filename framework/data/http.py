"""One HTTP request, and what the headers of its answer say; the server is not trusted.

Only `http(s)` is followed, also where a server redirects; numbers in headers are digits and nothing else; an answer
that is not complete at the deadline is cut.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import re
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

_LARGEST_NUMBER_DIGITS = 18
_MOST_QUOTED = 200


@contextmanager
def answered(request: urllib.request.Request, *, stall_seconds: float, deadline: float) -> Iterator[Any]:
    """Yield the answer to a request, whose head has been read and whose body has not.

    Args:
        request: see `request_for`.
        stall_seconds: longest silence.
        deadline: time on the clock of `time.monotonic` at which the connection is cut.

    Raises:
        OSError, http.client.HTTPException: there is no answer, or it cannot be understood.
    """
    with contextlib.ExitStack() as stack:

        def watch(connection: socket.socket) -> None:
            """Cut the connection at the deadline: slow bytes and endless redirects are never silent for long."""
            timer = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, [connection])
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)

        try:
            response = stack.enter_context(_opener(watch).open(request, timeout=stall_seconds))
        except (OSError, http.client.HTTPException):
            raise
        except ValueError as error:  # addresses and headers that urllib refuses, UnicodeError among them
            raise OSError(f"the answer cannot be understood ({error})") from None
        yield response


def request_for(address: str) -> urllib.request.Request:
    """Return a request for an address; `user:password@` becomes basic authentication (RFC 7617), for this host only."""
    parts = urllib.parse.urlsplit(address)
    userinfo, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(
        urllib.parse.urlunsplit(parts._replace(netloc=host)), headers={"Accept-Encoding": "identity"}
    )
    if at:
        user, _, password = userinfo.partition(":")
        pair = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"
        # The header is not sent on when the server redirects.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return request


def content_length(response: Any) -> int | None:
    """Return the number of bytes that follow, or None where the server does not say.

    Raises:
        OSError: the header is no number.
    """
    said = response.headers.get("Content-Length")
    return None if said is None else _number(said, "Content-Length")


def content_start(response: Any) -> int:
    """Return the position in the file of the first byte that follows.

    Raises:
        OSError: the server sends a part and does not say which one.
    """
    if response.status != 206:
        return 0
    said = response.headers.get("Content-Range", "")
    return _number(said.removeprefix("bytes ").partition("-")[0], "Content-Range")


def validator_of(response: Any) -> str | None:
    """Return the `If-Range` for a later request for the rest of this answer (RFC 9110, section 13.1.5), or None."""
    etag = response.headers.get("ETag", "")
    # A weak tag does not promise equal bytes, so it may not join two halves.
    strong = etag if etag and not etag.startswith("W/") else None
    validator = strong or response.headers.get("Last-Modified")
    return validator if validator and validator.isascii() and validator.isprintable() else None


def plain(text: object) -> str:
    """Return a server's text as one short line that a terminal may show."""
    said = str(text)[:_MOST_QUOTED]
    return said if said.isprintable() else ascii(said)


def _number(said: str, header: str) -> int:
    if not re.fullmatch(rf"[0-9]{{1,{_LARGEST_NUMBER_DIGITS}}}", said.strip()):
        raise OSError(f"server sent a {header} that says no number: {said[:_MOST_QUOTED]!a}")
    return int(said)


class _OnlyHttp(urllib.request.HTTPRedirectHandler):
    """Follows redirects to `http(s)` only, and none that would give up encryption."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> Any:
        """See the base class, which would read the body, whatever its length, and leave it open at a refused place."""
        fp.close()
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for the new address; see the base class.

        Raises:
            OSError: its scheme is not followed.
        """
        schemes = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme not in schemes:
            raise OSError(f"server leads to {newurl[:_MOST_QUOTED]!a}; only {' and '.join(schemes)} are followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self._connection = functools.partial(_watched, http.client.HTTPConnection, watch)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self._connection = functools.partial(_watched, http.client.HTTPSConnection, watch)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)


def _watched(
    kind: type[http.client.HTTPConnection], watch: Callable[[socket.socket], None], host: str, **options: Any
) -> http.client.HTTPConnection:
    """Return a connection that calls `watch` with its socket as soon as there is one."""
    connection = kind(host, **options)
    connect = connection.connect

    def and_watch() -> None:
        connect()
        watch(connection.sock)

    connection.connect = and_watch  # type: ignore[method-assign]
    return connection


def _opener(watch: Callable[[socket.socket], None]) -> urllib.request.OpenerDirector:
    """Return an opener like that of `urllib.request.build_opener`, without files, FTP and inline data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _Http(watch),
        _Https(watch),
        urllib.request.HTTPDefaultErrorHandler(),
        _OnlyHttp(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
