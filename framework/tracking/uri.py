"""MLflow tracking URIs: the kinds that are accepted, and the parts that may be written into files."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from framework.utils.errors import FrameworkError
from framework.utils.redaction import redact_text

SQLITE = "sqlite:///"
EMBEDDED_NAME = "mlflow.db"
PORTABLE = f"{SQLITE}../{EMBEDDED_NAME}"
"""The URI by which a journal names the database beside the run folder."""

SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")


def embedded_uri(folder: Path | str) -> str:
    """Return the URI of the SQLite file that serves all runs below `folder`: `sqlite:////abs/folder/mlflow.db`."""
    return f"{SQLITE}{Path(folder).resolve() / EMBEDDED_NAME}"


def portable_uri(uri: str, *, run_folder: Path) -> str:
    """Return the URI as a run keeps it; the database beside the run becomes relative, so that both can be moved."""
    return PORTABLE if uri == embedded_uri(run_folder.parent) else redact(uri)


def resolved_uri(kept: str, *, run_folder: Path) -> str:
    """Return the URI that a run kept, as seen from where the run folder is now.

    Runs of an older version kept the absolute path of their folder's database: if that is gone and there is one beside
    the run, both have been moved.
    """
    here, database = run_folder.resolve().parent / EMBEDDED_NAME, sqlite_path(kept)
    named_so = database is not None and database.name == EMBEDDED_NAME
    moved = named_so and here.exists() and not Path(str(database)).exists()
    return embedded_uri(here.parent) if kept == PORTABLE or moved else kept


def check_uri(uri: str) -> str:
    """Return the URI with a relative SQLite path made absolute, because the upload process works in another folder.

    Raises:
        FrameworkError: MLflow has no SQL or HTTP store of this kind.
    """
    scheme = "databricks" if uri == "databricks" else urlsplit(uri).scheme.split("+")[0]
    if scheme not in _SCHEMES:
        raise FrameworkError(
            f"{redact_text(uri)!r} is no MLflow tracking URI this framework can use: give http(s)://host:port, a "
            f"database (postgresql://...), or a local file as {SQLITE}/absolute/path/mlflow.db"
        )
    database = sqlite_path(uri)
    return f"{SQLITE}{database}" if database else uri


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a `sqlite:///` URI's file; None for any other URI."""
    path = uri.removeprefix(SQLITE)
    return Path(path).resolve() if uri.startswith(SQLITE) and path else None


def redact(uri: str) -> str:
    """Return the URI without its password, so that it may be written into a file: `postgresql://me:***@host/db`.

    A name before an empty password is a token (`https://token:@host`) and is removed, too; so is a query
    (`?token=...`). A name without a password is no secret: HTTP clients do not even send it.
    """
    parts = urlsplit(uri)
    if parts.password is None and not parts.query:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    if parts.password is not None:
        parts = parts._replace(netloc=f"{user.partition(':')[0] if parts.password else ''}:***@{host}")
    return urlunsplit(parts._replace(query="***" if parts.query else ""))


def is_redacted(uri: str) -> bool:
    """Return whether `redact` has removed something secret from the URI."""
    return ":***@" in uri or uri.endswith("?***")


def move_credentials(uri: str, *, environment: MutableMapping[str, str]) -> str:
    """Move user and password of an HTTP URI into MLflow's variables, and return the URI without them.

    MLflow prints the address of a run when it ends, and in messages; it cannot print what is not in the URI.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.username or not parts.password:
        return uri
    environment["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    environment["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    environment.pop("MLFLOW_TRACKING_TOKEN", None)  # would be preferred
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def without_secrets(text: str, *, uri: str, environment: Mapping[str, str]) -> str:
    """Return a message, perhaps of a library, without the secrets in a URI and in MLflow's variables."""
    parts = urlsplit(uri)
    raw = [parts.password or None, parts.query or None, parts.username if parts.password == "" else None]
    raw += [environment.get(name) for name in SECRET_VARIABLES]
    secrets = {form for secret in raw if secret for form in (secret, unquote(secret), quote(secret, safe=""))}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return redact_text(text)
