"""Files that survive a crash: JSON written atomically, folders synchronised, folders removed in one visible step."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from framework.checkpoint.errors import CheckpointError, explain, naming
from framework.utils import bounded

log = logging.getLogger(__name__)

JSON = Any
"""A value that JSON can hold: None, bool, int, finite float, str, and lists and string-keyed dicts of these."""


class Digest(NamedTuple):
    """Size of a file in bytes, and SHA-256 of its content in hex."""

    bytes: int
    sha256: str


def plain(value: object, *, where: str) -> JSON:
    """Return a deep copy of `value` made of JSON types only.

    Raises:
        ValueError: something in it would not come back equal from JSON; the message holds its path below `where`.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where}: key {key!r} must be a string to be stored as JSON")
        return {key: plain(item, where=f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where=f"{where}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"{where}: {value!r} ({type(value).__name__}) cannot be stored as JSON")


def layered(value: JSON, *, depth: int = 2, indent: str = "") -> str:
    """Return JSON text with a line per field of the outer `depth` levels of objects, so that a diff can be read."""
    if depth == 0 or not isinstance(value, dict) or not value:
        return json.dumps(value, allow_nan=False)
    inner = indent + " "
    lines = (f"{inner}{json.dumps(k)}: {layered(v, depth=depth - 1, indent=inner)}" for k, v in value.items())
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def write_json(path: Path, value: JSON) -> Digest:
    """Write `value` durably, and return size and hash of the file; readers see the former file or the new one.

    Raises:
        OSError: the file cannot be written; names it.
    """
    content = (layered(value) + "\n").encode()
    partial = path.with_name(f".{path.name}.partial")
    with naming(path), open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)
    return Digest(len(content), hashlib.sha256(content).hexdigest())


def read_json(path: Path) -> JSON:
    """Return the content of a JSON file.

    Raises:
        CheckpointError: it is missing, unreadable, or not JSON.
    """
    try:
        return bounded.read_json(path, error=CheckpointError)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise explain(error, doing="read", path=path) from error


def sync_folder(folder: Path) -> None:
    """Make the folder's entries (creations, renames, removals) durable.

    Raises:
        OSError: the folder cannot be opened, or its disk fails.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network mounts cannot, and need not
            raise
    finally:
        os.close(descriptor)


def discard(path: Path, *, token: str) -> None:
    """Rename a checkpoint folder and delete it, so that a crash never leaves half of it under a valid name."""
    if path.name.startswith("."):
        hidden = path
    else:
        hidden = path.with_name(f".{path.name}-{token}.deleted")
        remove_tree(hidden)
        os.rename(path, hidden)
        sync_folder(path.parent)
    remove_tree(hidden)


def remove_tree(path: Path) -> None:
    """Delete a hidden folder; the next launch deletes what a network file system keeps for open readers."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("left over: %s could not be deleted (%s); the next launch tries again", path, error)
