"""A file is replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; after the block the file is flushed to disk and renamed.

    Parent folders are made. When the block fails, an existing file stays as it is and nothing else is left behind. Any
    number of threads and processes may do this to one path at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # the failure itself is what the user should read
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> Path:
    """Replace a text file; returns its path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
