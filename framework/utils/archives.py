"""Reads zip archives of arrays from elsewhere within bounds: `.npz`, and the archives in which torch keeps tensors.

A zip file tells how large its members become. That is compared with the file's own size first, so that a small file
cannot fill the memory; see `framework.utils.bounded` for the rule.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from framework.utils.bounded import decoding, element_count, open_regular
from framework.utils.errors import FrameworkError

MOST_TIMES = 16
"""Largest ratio of unpacked to packed size of an archive: weights and photographs shrink to a half at most."""
_FLOOR_BYTES = 64 << 20
"""Size that any archive may unpack to: small ones hold zeros and pictures of one colour."""
_MOST_MEMBERS = 100_000
_CHUNK_BYTES = 1 << 20
_DEFLATE_TIMES = 1032
"""Largest ratio of unpacked to packed size that deflate can reach."""
_ENCRYPTED = 0x1


def check_archive(archive: zipfile.ZipFile, *, num_bytes: int, source: object, most_times: int = MOST_TIMES) -> None:
    """Refuse members that are encrypted, packed in an unusual way, or unpack to far more than the archive's size.

    Args:
        archive: the archive; only its list of members is read.
        num_bytes: size of the archive.
        source: name of the archive in messages.
        most_times: largest ratio of unpacked to packed size.

    Raises:
        FrameworkError: there are too many members, or one of them is refused; names it and says why.
    """
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise FrameworkError(f"{source} has {len(members)} members, more than {_MOST_MEMBERS}")
    for member in members:
        check_member(member, source=source)
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_FLOOR_BYTES, most_times * num_bytes):
        raise FrameworkError(
            f"{source} has {num_bytes} bytes and would unpack to {unpacked}: more than {most_times} times as many"
        )


def check_member(member: zipfile.ZipInfo, *, source: object) -> None:
    """Refuse a member that is encrypted or packed in an unusual way.

    Raises:
        FrameworkError: names the member and what is wrong with it.
    """
    if member.flag_bits & _ENCRYPTED:
        raise FrameworkError(f"{source}: {member.filename!a} is encrypted; store it without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FrameworkError(
            f"{source}: {member.filename!a} is packed by method {member.compress_type}; only stored and deflated "
            "members can be read"
        )
    if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
        raise FrameworkError(f"{source}: the sizes of {member.filename!a} disagree: it is damaged")


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, most_bytes: int, source: object) -> bytes:
    """Return the content of one member of at most `most_bytes`; the other members may be anything.

    Raises:
        FrameworkError: see `check_member`, or it is larger or damaged.
    """
    check_member(member, source=source)
    name = f"{source}: {member.filename!a}"
    if member.file_size > min(most_bytes, _DEFLATE_TIMES * member.compress_size + _CHUNK_BYTES):
        raise FrameworkError(
            f"{name} says it has {member.file_size} bytes, packed into {member.compress_size}; at most {most_bytes} "
            "are read"
        )
    content = bytearray()
    with decoding(name), archive.open(member) as file:
        # Read in chunks: one read of all would unpack all, whatever size the member is said to have.
        while chunk := file.read(_CHUNK_BYTES):
            content += chunk
    if len(content) != member.file_size:
        raise FrameworkError(f"{name} ends after {len(content)} of {member.file_size} bytes: it is damaged")
    return bytes(content)


def check_members(archive: zipfile.ZipFile, *, source: object) -> None:
    """Compare every member with its checksum, in small chunks.

    Raises:
        FrameworkError: one differs, or cannot be unpacked.
    """
    for member in archive.infolist():
        with decoding(f"{source}: {member.filename!a}"), archive.open(member) as file:
            while file.read(_CHUNK_BYTES):
                pass


class Arrays:
    """The arrays of an `.npz` file, each read when it is asked for; also a context manager, which closes the file.

    Nothing is unpickled.

    Args:
        path: the file.
        most_times: largest ratio of unpacked to packed size.

    Attributes:
        listed: names as they stand in the file; one may be there twice, and its last array is read.

    Raises:
        OSError: the file is not there, or may not be read.
        FrameworkError: it is no such archive, or breaks the rule; names the file.
    """

    def __init__(self, path: Path, *, most_times: int = MOST_TIMES) -> None:
        self.path = path
        self._file = open_regular(path)
        try:
            with decoding(path):
                self._archive = zipfile.ZipFile(self._file)
                num_bytes = os.fstat(self._file.fileno()).st_size
                check_archive(self._archive, num_bytes=num_bytes, source=path, most_times=most_times)
        except BaseException:
            self._file.close()
            raise
        self.listed = [name.removesuffix(".npy") for name in self._archive.namelist()]
        self._members = dict(zip(self.listed, self._archive.namelist(), strict=True))

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        """Return the array of this name, in its stored type and shape.

        Raises:
            FrameworkError: there is none, or it is damaged or no plain array of numbers or texts.
        """
        if name not in self._members:
            raise FrameworkError(f"{self.path} has no array {name!r}; it has: {', '.join(self._members) or 'none'}")
        source = f"{self.path}: {name!a}"
        member = self._archive.getinfo(self._members[name])
        with decoding(source), self._archive.open(member) as file:
            return _read_array(file, num_bytes=member.file_size, source=source)  # type: ignore[arg-type]


def _read_array(file: BinaryIO, *, num_bytes: int, source: str) -> np.ndarray[Any, Any]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise FrameworkError(f"{source} is an array of format {version}; only 1.0 and 2.0 can be read")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.kind not in "biufcSU":
        raise FrameworkError(f"{source} holds {dtype}, not numbers or texts")
    count, left = element_count(tuple(shape), source=source), num_bytes - file.tell()
    if count * dtype.itemsize != left:
        raise FrameworkError(f"{source}: {dtype} of shape {shape} does not fit its {left} bytes")
    flat = np.empty(count, dtype=dtype)
    target, done = flat.view(np.uint8), 0
    while chunk := file.read(_CHUNK_BYTES):  # up to the end, where the checksum is compared
        target[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        done += len(chunk)
    if done != left:
        raise FrameworkError(f"{source} ends after {done} of {left} bytes: it is damaged")
    return flat.reshape(shape, order="F" if fortran else "C")
