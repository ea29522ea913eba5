"""Advice about ports and MLflow: against real sockets and servers."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from framework.doctor.services import mlflow, rendezvous_port


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def answering(status: int, text: str) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.send_response(status if self.path == "/version" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> int:
    with listening() as port:
        return port


def test_a_port_that_is_taken_and_another_one() -> None:
    assert rendezvous_port(closed_port()).level == "ok"
    with listening() as port:
        taken = rendezvous_port(port)
    assert taken.level == "warn"
    assert f"{port} is taken" in taken.value
    assert "launch/torchrun/node.sh, which needs no port" in taken.advice
    assert "--standalone" not in taken.advice  # it opens a port that unpickles


def test_an_mlflow_server_that_answers(tmp_path: Path) -> None:
    with answering(200, "3.17.2") as uri:
        found = mlflow(uri, out=tmp_path)
    assert (found.level, found.value) == ("ok", f"{uri}, server version 3.17.2")


def test_an_mlflow_server_that_wants_a_password(tmp_path: Path) -> None:
    with answering(401, "") as uri:
        found = mlflow(uri, out=tmp_path)
    assert found.level == "warn"
    assert "MLFLOW_TRACKING_USERNAME" in found.advice


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_nobody_there(tmp_path: Path, scheme: str) -> None:
    found = mlflow(f"{scheme}://127.0.0.1:{closed_port()}", out=tmp_path)
    assert found.level == "warn"
    assert "cannot be reached" in found.value
    assert "framework sync" in found.advice


def test_a_database_server_and_its_password(tmp_path: Path) -> None:
    with listening() as port:
        found = mlflow(f"postgresql+psycopg2://me:secret@127.0.0.1:{port}/mlflow", out=tmp_path)
    assert found.level == "ok"
    assert "secret" not in found.value


def test_files(tmp_path: Path) -> None:
    found = mlflow("default", out=tmp_path / "runs" / "a")
    assert found.level == "ok"
    assert str(tmp_path / "runs" / "mlflow.db") in found.value
    assert mlflow("sqlite:////proc/mlflow.db", out=tmp_path).level == "warn"
    assert mlflow("none", out=tmp_path).level == "ok"
    assert mlflow("file:///old", out=tmp_path).level == "fail"
    assert list(tmp_path.iterdir()) == []
