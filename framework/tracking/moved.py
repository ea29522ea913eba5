"""A repair for MLflow's SQLite database after a move, because it keeps absolute addresses of the artifacts beside it.

Without it, MLflow's pages of a moved or copied folder of runs show no images, or those of the original, and new files
go to the old place, which is created again.
"""

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from framework.utils.errors import FrameworkError

ARTIFACTS_FOLDER = "mlflow-artifacts"
"""The folder beside the database where every experiment that training makes keeps its artifacts."""

_ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Tables of MLflow 3 -> their column of addresses; an older database lacks some."""


def artifacts_of(database: Path) -> str:
    """Return the address for the artifacts of experiments in this database."""
    return (database.parent / ARTIFACTS_FOLDER).as_uri()


def follow(database: Path) -> int:
    """Point a database at the artifacts beside it if it was made elsewhere; return how many addresses changed.

    Only addresses of a folder `mlflow-artifacts` of this machine's files are changed, and only if that folder lies
    beside the database: artifacts that are kept elsewhere stay there.

    Args:
        database: an existing file; no other process may write to it at the same time.

    Raises:
        FrameworkError: the addresses must change, and this account may not write to the database.
    """
    here = artifacts_of(database)
    if not (database.parent / ARTIFACTS_FOLDER).is_dir():
        return 0
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        found = _elsewhere(connection, here)
    if not found:
        return 0
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=60.0)) as connection, connection:
            for table, column, old in _elsewhere(connection, here):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR {column} LIKE ?",
                    (here, len(old) + 1, old, f"{old}/%"),
                )
    except sqlite3.OperationalError as error:
        raise FrameworkError(
            f"{database} was moved or copied here, and its addresses cannot be changed ({error}): copy the folder to "
            "where you may write"
        ) from None
    return len(found)


def _elsewhere(connection: sqlite3.Connection, here: str) -> list[tuple[str, str, str]]:
    """Return (table, column, old address of the folder) for every address that does not point here."""
    found = set()
    for table, column in _ADDRESSES.items():
        if column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
            for (address,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):
                old = _folder_in(address or "")
                if old and old != here:
                    found.add((table, column, old))
    return sorted(found)


def _folder_in(address: str) -> str:
    """Return the part of a local address up to and including `mlflow-artifacts`; empty without one."""
    parts = urlsplit(address)
    head, mark, rest = address.partition(f"/{ARTIFACTS_FOLDER}")
    local = parts.scheme == "file" and unquote(parts.path).startswith("/")
    return head + mark if local and mark and (not rest or rest.startswith("/")) else ""
