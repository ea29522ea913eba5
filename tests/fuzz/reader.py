"""A reader of foreign bytes, as the fuzz suite sees it: good files, what may happen to them, and what reads them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from tests.fuzz.mutation import Mutator, damaged, special


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file that is damaged, and in which ways."""

    path: str
    mutators: tuple[Mutator, ...] = (damaged,)
    finish: Callable[[Path], None] | None = None
    """What whoever wrote the file would do then: sign it, say."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One line of the table in `tests.fuzz.readers`.

    Attributes:
        make: writes the good files into an empty folder.
        read: reads them; an `AssertionError` is a wrong answer.
        targets: the files that are damaged, one in each case.
        protected: a digest stands over the bytes, so whatever is accepted must equal the original.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    targets: tuple[Target, ...]
    protected: bool = False


class Bench:
    """A reader and its good files in a folder.

    Args:
        reader: the line of the table.
        folder: an empty one.
        seed: of all cases.
    """

    def __init__(self, reader: Reader, folder: Path, *, seed: int) -> None:
        self._reader, self._folder, self._seed = reader, folder, seed
        reader.make(folder)
        self._good = {target.path: (folder / target.path).read_bytes() for target in reader.targets}
        self._others = {path: path.read_bytes() for path in folder.rglob("manifest.json")}
        self._meaning = plain(reader.read(folder))

    def one(self, case: int) -> str:
        """Run a case; `accepted`, or `another meaning` where that must not be."""
        random = Random(f"{self._seed} {self._reader.name} {case}")
        self._restore()
        target = random.choice(self._reader.targets)
        path = self._folder / target.path
        if random.random() < 0.02:
            special(random, path)
        else:
            path.write_bytes(random.choice(target.mutators)(random, self._good[target.path]))
            if target.finish is not None:
                target.finish(path)
        answer = plain(self._reader.read(self._folder))
        return "accepted" if not self._reader.protected or answer == self._meaning else "another meaning"

    def _restore(self) -> None:
        for name, content in self._good.items():
            _put(self._folder / name, content)
        for path, content in self._others.items():
            _put(path, content)


def _put(path: Path, content: bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
    path.write_bytes(content)


def plain(value: Any) -> Any:
    """Tensors and arrays by type, shape and digest, so that meanings can be compared."""
    if isinstance(value, torch.Tensor):
        raw = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(raw).hexdigest()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
