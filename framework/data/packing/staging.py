"""Writes shards to disk: a tar writer, and a staging folder that makes a data set appear whole or not at all.

Everything is written to `<parent>/.<out>.part/`; a line of `progress.jsonl` there states each finished shard, and the
folder is renamed to its name last. A killed run leaves the staging folder, and the same request continues after the
last finished shard; another request clears it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from framework.data.errors import DataError
from framework.data.index import BLOCK_BYTES, Member, SampleIndex, write_index
from framework.data.manifest import MANIFEST_NAME, ShardEntry, index_name
from framework.data.packing.progress import read_progress
from framework.utils.atomic import write_atomically
from framework.utils.locks import ProcessLock

END_MARK = bytes(2 * BLOCK_BYTES)
NOTICE_NAME = "NOTICE"
_PROGRESS_NAME, _LOCK_NAME = "progress.jsonl", "packing.lock"


def sample_bytes(members: Sequence[tuple[str, bytes]]) -> int:
    """Return the bytes that one sample takes in a tar: a header block per member, payloads in whole blocks."""
    return sum(BLOCK_BYTES + -(-len(payload) // BLOCK_BYTES) * BLOCK_BYTES for _, payload in members)


class ShardWriter:
    """Writes one tar and its index. Headers are USTAR with date and owner 0: the same samples give the same bytes.

    (`webdataset.TarWriter` is not used: it writes its own user name, and pads every shard to 10 240 bytes.)
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size, self.samples = path, 0, list[SampleIndex]()
        self._file = open(path, "wb")  # noqa: SIM115 - closed in `finish`
        self._digest = hashlib.sha256()

    def add(self, key: str, members: Sequence[tuple[str, bytes]]) -> None:
        """Append one sample, given as (extension, payload) pairs; its members are adjacent."""
        listed = []
        for extension, payload in members:
            info = tarfile.TarInfo(f"{key}.{extension}")
            info.size = len(payload)
            self._write(info.tobuf(tarfile.USTAR_FORMAT))
            listed.append(Member(extension, self.size, len(payload), info.name))
            self._write(payload + bytes(-len(payload) % BLOCK_BYTES))
        self.samples.append(SampleIndex(key, tuple(listed)))

    def finish(self) -> ShardEntry:
        """Write the end mark and the index, flush both to disk, and return the shard's entry for the manifest."""
        self._write(END_MARK)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        write_index(self.path.with_name(index_name(self.path.name)), self.samples)
        return ShardEntry(
            name=self.path.name, count=len(self.samples), bytes=self.size, sha256=self._digest.hexdigest()
        )

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)


class Staging:
    """The folder in which a data set is built, for one process at a time; also a context manager, which frees it.

    Args:
        out: folder that the data set will have.
        request: text that identifies source and options; progress of another request is cleared.

    Attributes:
        path: the staging folder.
        progress: one entry per finished shard, in order; see `record`.

    Raises:
        DataError: another process is packing to the same folder, or the staging folder is a link.
    """

    def __init__(self, out: Path, *, request: str) -> None:
        self.out, self.path = out, out.parent / f".{out.name}.part"
        if self.path.is_symlink():  # whatever it leads to would be cleared
            raise DataError(f"{self.path}: is a link, must be a folder; remove it")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = ProcessLock(self.path / _LOCK_NAME)
        if not self._lock.take():
            raise DataError(f"{out}: another process is packing to this folder")
        self.progress = read_progress(self.path / _PROGRESS_NAME, request=request)
        _clear(self.path, keep={_LOCK_NAME, *(file for entry in self.progress for file in entry["files"])})
        lines = [{"request": request}, *self.progress]
        write_atomically(self.path / _PROGRESS_NAME, "".join(json.dumps(line) + "\n" for line in lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def record(self, *, shards: Sequence[tuple[Path, ShardEntry]], **state: Any) -> None:
        """Record that a shard (one per resolution) is finished, with the state that is needed to continue after it."""
        files: dict[str, int] = {}
        for path, _ in shards:
            index = path.with_name(index_name(path.name))
            files |= {str(file.relative_to(self.path)): file.stat().st_size for file in (path, index)}
        line = {"files": files, "shards": [asdict(entry) for _, entry in shards], **state}
        with open(self.path / _PROGRESS_NAME, "a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.progress.append(line)

    def discard(self) -> None:
        """Remove the staging folder, so that nothing is published and nothing is kept."""
        shutil.rmtree(self.path)

    def publish(self) -> None:
        """Rename the folder to its name, in place of an older data set if there is one."""
        for folder in {file.parent for file in self.path.rglob("*")}:
            _sync_folder(folder)
        old = self.out.parent / f".{self.out.name}.old"
        if self.out.exists():
            os.rename(self.out, old)
        (self.path / _PROGRESS_NAME).unlink()
        (self.path / _LOCK_NAME).unlink()
        os.rename(self.path, self.out)
        _sync_folder(self.out.parent)
        if old.exists():
            shutil.rmtree(old)


def restore_interrupted(out: Path) -> None:
    """Bring back a data set whose replacement was killed between two renames."""
    old = out.parent / f".{out.name}.old"
    if old.exists() and not out.exists():
        os.rename(old, out)


def foreign_file(out: Path) -> Path | None:
    """Return a file below `out` that is no part of a packed data set, or None."""
    for file in sorted(out.rglob("*")):
        ours = file.suffix in (".tar", ".idx") or file.name in (MANIFEST_NAME, NOTICE_NAME)
        ours = ours or (file.is_dir() and file.name.startswith("r") and file.name[1:].isdecimal())
        if not ours:
            return file
    return None


def _clear(folder: Path, *, keep: set[str]) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):  # the content of a folder comes before the folder
        if file.is_dir() and not file.is_symlink():
            if not any(file.iterdir()):
                file.rmdir()
        elif str(file.relative_to(folder)) not in keep:
            file.unlink()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
