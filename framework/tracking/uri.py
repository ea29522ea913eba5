"""MLflow tracking URIs: which are taken, and what of them may be written into files."""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from framework.errors import FrameworkError

SQLITE = "sqlite:///"

_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")


def embedded_uri(folder: Path | str) -> str:
    """Return the URI of the SQLite file that serves all runs below `folder`: `sqlite:////abs/folder/mlflow.db`."""
    return f"{SQLITE}{Path(folder).resolve() / 'mlflow.db'}"


def check_uri(uri: str) -> str:
    """Return the URI with a relative SQLite path made absolute: the upload process works in another folder.

    Raises:
        FrameworkError: MLflow has no SQL or HTTP store of this kind.
    """
    scheme = "databricks" if uri == "databricks" else urlsplit(uri).scheme.split("+")[0]
    if scheme not in _SCHEMES:
        raise FrameworkError(
            f"{uri!r} is no MLflow tracking URI this framework can use: give http(s)://host:port, a database "
            f"(postgresql://...), or a local file as {SQLITE}/absolute/path/mlflow.db (MLflow's plain folders are "
            "retired)"
        )
    database = sqlite_path(uri)
    return f"{SQLITE}{database}" if database else uri


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a `sqlite:///` URI's file; None for any other URI."""
    path = uri.removeprefix(SQLITE)
    return Path(path).resolve() if uri.startswith(SQLITE) and path else None


def redact(uri: str) -> str:
    """Return the URI without its password, fit for a file: `postgresql://me:***@host/db`."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


def redact_text(text: str) -> str:
    """Return a location or a command line without passwords, tokens in queries, and commands behind `pipe:`."""
    text = re.sub(r"pipe:.*", "pipe:***", text)
    text = re.sub(r"(?<=://)[^/@\s]+@", "***@", text)
    return re.sub(r"(://[^\s?]+)\?\S+", r"\1?***", text)


def is_redacted(uri: str) -> bool:
    """Return whether the password has been taken out."""
    return ":***@" in uri
