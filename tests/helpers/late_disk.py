"""A shared file system that shows one process late what the others did to a folder, as network file systems do.

This is a simulation: the calls by which Python looks at files are wrapped. What another process made or renamed is not
found until `seconds` after this one first asked for it (a cached "no such file"), and what it renamed away stays listed
for as long.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import time
from pathlib import Path
from typing import Any

_open, _stat, _listdir, _mkdir = io.open, os.stat, os.listdir, os.mkdir
_rename, _replace, _os_open = os.rename, os.replace, os.open


class LateDisk:
    """Wraps the calls for everything below `folder`."""

    def __init__(self, folder: Path, *, seconds: float, known: bool) -> None:
        self.folder, self.seconds = str(folder), seconds
        self.asked: dict[str, float] = {}
        self.listed: dict[str, list[str]] = {}
        self.gone: dict[str, float] = {}
        self.num_hidden = 0
        if known:
            for path in folder.rglob("*"):
                self.asked[str(path)] = 0.0

    def install(self) -> None:
        """From here on, for the rest of the process."""
        io.open = builtins.open = self.open  # type: ignore[assignment]
        os.stat, os.listdir, os.mkdir, os.open = self.stat, self.list, self.mkdir, self.os_open  # type: ignore[assignment]
        os.rename = self.moving(_rename)  # type: ignore[assignment]
        os.replace = self.moving(_replace)  # type: ignore[assignment]

    def below(self, path: Any) -> str | None:
        """The path if it lies below the folder."""
        if isinstance(path, int):
            return None
        text = os.path.abspath(os.fspath(path))
        return text if isinstance(text, str) and text.startswith(self.folder + os.sep) else None

    def made(self, path: Any) -> None:
        """This process did that itself, so it sees it."""
        if name := self.below(path):
            self.asked[name] = 0.0

    def hidden(self, path: Any) -> bool:
        """Whether the path is there and not seen yet."""
        name = self.below(path)
        if name is None:
            return False
        try:
            _stat(name)
        except OSError:
            return False
        hidden = time.monotonic() - self.asked.setdefault(name, time.monotonic()) < self.seconds
        self.num_hidden += hidden
        return hidden

    def refuse(self, path: Any) -> None:
        """As the file system would."""
        if self.hidden(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))

    def open(self, file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if mode[0] in "wxa":
            self.made(file)
        else:
            self.refuse(file)
        return _open(file, mode, *rest, **more)

    def os_open(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            self.made(path)
        return _os_open(path, flags, *rest, **more)

    def stat(self, path: Any, **more: Any) -> os.stat_result:
        self.refuse(path)
        return _stat(path, **more)

    def mkdir(self, path: Any, *rest: Any, **more: Any) -> None:
        try:
            _mkdir(path, *rest, **more)
        finally:
            self.made(path)  # "it exists" is an answer of the server's, too

    def list(self, path: Any = ".") -> list[str]:
        name = self.below(path)
        if name is None and os.path.abspath(os.fspath(path)) != self.folder:
            return _listdir(path)
        self.refuse(path)
        try:
            names = [one for one in _listdir(path) if not self.hidden(os.path.join(os.fspath(path), one))]
        except FileNotFoundError:
            since = self.gone.setdefault(str(name), time.monotonic())
            if str(name) not in self.listed or time.monotonic() - since > self.seconds:
                raise
            return self.listed[str(name)]
        self.listed[str(name)] = names
        return names

    def moving(self, call: Any) -> Any:
        def moved(source: Any, target: Any, **more: Any) -> None:
            call(source, target, **more)
            self.made(target)
            for child in Path(target).rglob("*") if self.below(target) else ():
                self.made(child)

        return moved
