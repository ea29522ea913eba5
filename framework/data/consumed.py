"""Records which samples each process consumed, for `--record-keys`: one plain text file per process.

A line is `<position> <key>`. After a resume, positions since the checkpoint appear again; a position always has the
same key, so a reader keeps one of the lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def recorded(batches: Iterator[Any], *, folder: Path, rank: int) -> Iterator[Any]:
    """Yield the same batches, and note each in `<folder>/rank-<rank>.txt` when the game takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"rank-{rank:05d}.txt").open("a", encoding="utf-8", buffering=1) as file:
        for batch in batches:
            file.writelines(f"{p} {k}\n" for p, k in zip(batch.positions, batch.keys, strict=True))
            yield batch


def consumed(folder: Path) -> dict[int, str]:
    """Return the key of every position that any process consumed.

    Raises:
        ValueError: a position has two keys.
    """
    keys: dict[int, str] = {}
    for file in sorted(folder.glob("rank-*.txt")):
        for line in file.read_text(encoding="utf-8").splitlines():
            position, _, key = line.partition(" ")
            if keys.setdefault(int(position), key) != key:
                raise ValueError(f"{file}: position {position} has the keys {keys[int(position)]} and {key}")
    return dict(sorted(keys.items()))


def keys_hash(keys: dict[int, str]) -> str:
    """Return the SHA-256 over the keys in order of position."""
    return hashlib.sha256("\n".join(f"{p} {k}" for p, k in sorted(keys.items())).encode()).hexdigest()
