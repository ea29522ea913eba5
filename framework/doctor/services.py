"""The examination of the services that training uses: the port of the rendezvous, and MLflow."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from framework.doctor.finding import Finding, fail, ok, warn
from framework.doctor.folder import existing
from framework.tracking.environment import store_uri, wishes
from framework.tracking.uri import redact, sqlite_path
from framework.utils.errors import FrameworkError

TIMEOUT_SECONDS = 5.0
DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_LATER = "training goes on without it, and `framework sync RUN` uploads later"


def rendezvous_port(port: int) -> Finding:
    """Return the finding on the port at which the processes of a launch meet.

    Args:
        port: the port; 29500 unless a launcher is told otherwise.
    """
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as probe:
        try:
            probe.bind(("", port))
            return ok("port", f"{port} is free")
        except OSError as error:
            if error.errno == errno.EACCES:
                return warn("port", f"{port} may not be used", "give a port above 1023 to the launcher")
            probe.bind(("", 0))
            other = probe.getsockname()[1]
    advice = (
        "another launch on this machine? On one machine use launch/torchrun/node.sh, which needs no port, or "
        f"--main_process_port 0 (accelerate); on several give all of them another one, such as {other}"
    )
    return warn("port", f"{port} is taken", advice)


def mlflow(tracking: str | None, *, out: Path) -> Finding:
    """Return the finding on whether metrics will reach MLflow.

    Args:
        tracking: the value that `--tracking` will have: a URI, `default`, `none`, or None if it will not be given.
        out: the value that `--out` will have.
    """
    # The store that training would use.
    try:
        uri = store_uri(wishes(tracking=tracking).tracking, run_folder=out.resolve())
    except FrameworkError as error:
        return fail("MLflow", "not used", str(error))
    if uri is None:
        return ok("MLflow", "not used; the journal stays in the run folder")
    # Ask it, each kind in its own way.
    database = sqlite_path(uri)
    if database is not None:
        return _sqlite(database)
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in ("http", "https"):
        return _server(uri)
    if scheme in DEFAULT_PORTS:
        return _database(uri, default_port=DEFAULT_PORTS[scheme])
    return ok("MLflow", f"{redact(uri)} (its server was not asked)")


def _server(uri: str) -> Finding:
    shown = redact(uri)
    if "@" in urlsplit(uri).netloc:
        return ok("MLflow", f"{shown} (not asked: the address holds a password)")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/version", timeout=TIMEOUT_SECONDS) as answer:
            version = answer.read(50).decode(errors="replace").strip()
    except urllib.error.HTTPError as error:
        advice = f"is it an MLflow server, and does it ask for MLFLOW_TRACKING_USERNAME or a token? Else {_LATER}"
        return warn("MLflow", f"{shown} answers {error.code} {error.reason}", advice)
    except OSError as error:  # refused, no such host, no answer in time
        reason = getattr(error, "reason", error)
        return warn("MLflow", f"{shown} cannot be reached: {reason}", f"check the address and the network; {_LATER}")
    return ok("MLflow", f"{shown}, server version {version}")


def _database(uri: str, *, default_port: int) -> Finding:
    parts = urlsplit(uri)
    where = (parts.hostname or "localhost", parts.port or default_port)
    try:
        socket.create_connection(where, timeout=TIMEOUT_SECONDS).close()
    except OSError as error:
        advice = f"check the address and the network; {_LATER}"
        return warn("MLflow", f"{redact(uri)} cannot be reached: {error}", advice)
    return ok("MLflow", f"{redact(uri)} answers at port {where[1]}")


def _sqlite(database: Path) -> Finding:
    """Return the finding on a database file, which needs write access, and locks that some network disks lack."""
    folder = existing(database.parent)
    try:
        if database.exists():
            if not os.access(database, os.W_OK):
                raise PermissionError(errno.EACCES, "not writable")
            return ok("MLflow", f"file {database}")
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as probe:
            connection = sqlite3.connect(Path(probe) / "probe.db", timeout=TIMEOUT_SECONDS)
            connection.execute("create table probe (x)")
            connection.commit()
            connection.close()
    except (OSError, sqlite3.Error) as error:
        advice = f"give a file elsewhere (--tracking sqlite:////absolute/path/mlflow.db) or a server; {_LATER}"
        return warn("MLflow", f"no database can be kept at {database}: {error}", advice)
    return ok("MLflow", f"file {database}, made when needed")
