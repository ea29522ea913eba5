"""MLflow's SQLite database after a move: it keeps absolute addresses of the artifacts that stand beside it.

Without this, MLflow's pages of a moved or copied folder of runs show no images, or those of the original, and new files
go to where the folder was, which is made again.
"""

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from framework.utils.errors import FrameworkError

ARTIFACTS_FOLDER = "mlflow-artifacts"
"""Beside the database; every experiment that training makes has its artifacts there."""

_ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Tables and columns of MLflow 3 with addresses in them; an older database lacks some."""


def artifacts_of(database: Path) -> str:
    """The address that experiments in this database are given."""
    return (database.parent / ARTIFACTS_FOLDER).as_uri()


def follow(database: Path) -> int:
    """Point a database at the artifacts beside it, if it was made somewhere else; returns how many addresses changed.

    Only addresses of a folder `mlflow-artifacts` of this machine's files are changed, and only when that folder stands
    beside the database: artifacts that somebody keeps elsewhere stay there.

    Args:
        database: an existing file; nobody else may write to it meanwhile.

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
            f"{database} was moved or copied here, and cannot be told so ({error}): its images would be looked for "
            "where it was. Copy the folder to where you may write"
        ) from None
    return len(found)


def _elsewhere(connection: sqlite3.Connection, here: str) -> list[tuple[str, str, str]]:
    """(table, column, old address of the folder) of everything that is not here."""
    found = set()
    for table, column in _ADDRESSES.items():
        if column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
            for (address,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):
                old = _folder_in(address or "")
                if old and old != here:
                    found.add((table, column, old))
    return sorted(found)


def _folder_in(address: str) -> str:
    """The part of a local address up to and with `mlflow-artifacts`; empty without one."""
    parts = urlsplit(address)
    head, mark, rest = address.partition(f"/{ARTIFACTS_FOLDER}")
    local = parts.scheme == "file" and unquote(parts.path).startswith("/")
    return head + mark if local and mark and (not rest or rest.startswith("/")) else ""
