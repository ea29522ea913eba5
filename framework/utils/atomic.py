"""Replaces a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; after the block, flush the file to disk and rename it.

    Parent folders are made. When the block fails, an existing file stays as it is and nothing else is left behind. Any
    number of threads and processes may do this to one path at once.

    Raises:
        OSError: the folder cannot be made or written to, or the disk is full.
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
    """Replace a text file, and return its path.

    Raises:
        OSError: see `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
