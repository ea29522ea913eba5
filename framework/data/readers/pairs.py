"""Reads samples of several pictures: folders whose files have equal names, or parts of a picture side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from framework.data.pictures import read_picture
from framework.data.readers.base import BadImageError, Pixels, Source, SourceError, digest_rows
from framework.data.readers.files import walk_pictures
from framework.utils.bounded import read_file
from framework.utils.pictures import MOST_BYTES


def open_paired(path: Path, folders: Sequence[str]) -> Source:
    """Return samples of one picture from each sub-folder, which belong together by their names without suffixes.

    Raises:
        SourceError: a sub-folder is missing, a picture has no partner in another one, or two in one have the same name.
    """
    found: list[dict[str, str]] = []
    rows: list[tuple[str, str, int]] = []
    modified_ns = 0
    for folder in folders:
        if not (path / folder).is_dir():
            raise SourceError(f"{path / folder}: no such folder; its pictures are a field of every sample")
        sizes, changed_ns, _ = walk_pictures(path / folder)
        modified_ns = max(modified_ns, changed_ns)
        rows += [(folder, name, sizes[name]) for name in sorted(sizes)]
        found.append(_by_stem(sizes, path / folder))
    first = found[0]
    for folder, names in zip(folders, found, strict=True):
        for stem in sorted(first.keys() ^ names.keys()):
            have, lack = (folders[0], folder) if stem in first else (folder, folders[0])
            name = first.get(stem) or names[stem]
            raise SourceError(f"{path / have / name}: has no partner in {path / lack}; add one, or remove it")
    stems = sorted(first)

    def read_parts(index: int) -> tuple[bytes, ...]:
        files = [path / folder / names[stems[index]] for folder, names in zip(folders, found, strict=True)]
        return tuple(_read(file) for file in files)

    return Source(
        kind="paired folders",
        name=path.resolve().name,
        names=[f"{folders[0]}/{first[stem]}" for stem in stems],
        read=lambda index: read_parts(index)[0],
        read_parts=read_parts,
        digest=digest_rows(rows),
        modified_ns=modified_ns,
    )


def _by_stem(sizes: dict[str, int], folder: Path) -> dict[str, str]:
    """Return the names of pictures by what they are without their suffixes."""
    found: dict[str, str] = {}
    for name in sorted(sizes):
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in found:
            raise SourceError(f"{folder}: {found[stem]} and {name} have one name; only one can be meant")
        found[stem] = name
    return found


def _read(file: Path) -> bytes:
    try:
        return read_file(file, most_bytes=MOST_BYTES, error=BadImageError)
    except OSError as error:
        raise BadImageError(f"{file}: cannot be read ({error.strerror})") from None


def split_aligned(source: Source, count: int) -> Source:
    """Return the source with each picture cut into `count` parts of one width, from left to right."""

    def read_parts(index: int) -> tuple[Pixels, ...]:
        pixels = _decoded(source.read(index))
        height, width = pixels.shape[:2]
        if width % count:
            raise BadImageError(f"is {width}x{height}, which cannot be cut into {count} parts of one width")
        return tuple(np.split(pixels, count, axis=1))

    return dataclasses.replace(source, read_parts=read_parts)


def _decoded(content: bytes | Pixels) -> Pixels:
    """Return pixels, uint8 (H, W) or (H, W, 3)."""
    if isinstance(content, np.ndarray):
        return content
    try:
        return np.asarray(read_picture(content).image)
    except ValueError as error:
        raise BadImageError(f"cannot be decoded ({error})") from None
    except MemoryError:
        raise BadImageError("needs more memory than there is; use fewer workers") from None
