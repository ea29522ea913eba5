"""Basic authentication in front of a real MLflow server, as a reverse proxy does it."""

from __future__ import annotations

import base64
import http.client
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

_PASSED_ON = ("content-type", "accept", "user-agent")


class AuthProxy:
    """Forwards to 127.0.0.1:`upstream_port` what bears the right user and password; all else is answered by 401.

    With a certificate (files: certificate, key) it speaks TLS.
    """

    def __init__(
        self, upstream_port: int, *, user: str, password: str, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.num_passed = self.num_refused = 0
        self._upstream_port = upstream_port
        self._expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    proxy.handle(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="auth-proxy")

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> AuthProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        if request.headers.get("authorization") != self._expected:
            self.num_refused += 1
            request.send_response(401)
            request.send_header("www-authenticate", "Basic")
            request.end_headers()
            return
        self.num_passed += 1
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream_port, timeout=60)
        try:
            headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
            upstream.request(request.command, request.path, body=body, headers=headers)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        request.send_response(answer.status)
        request.send_header("content-type", answer.headers.get("content-type", "application/json"))
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
