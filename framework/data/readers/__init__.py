"""Readers of what is to be packed: pictures in a folder, zip, idx, npz or another WebDataset, or a table of numbers."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from framework.data.manifest import MANIFEST_NAME, load_resolutions
from framework.data.readers.arrays import find_idx, open_idx, open_npz
from framework.data.readers.base import BadImageError, Source, SourceError
from framework.data.readers.files import open_folder, open_zip
from framework.data.readers.shards import open_shards
from framework.data.readers.tables import SEPARATORS, open_table

__all__ = ["BadImageError", "Source", "SourceError", "is_table", "open_source"]


def is_table(location: str | os.PathLike[str]) -> bool:
    """Return whether a location is that of a table of numbers, by its suffix."""
    return Path(location).suffix in SEPARATORS and not Path(location).is_dir()


def open_source(
    location: str | os.PathLike[str], *, split: str = "train", labels: bool = True, label_column: str = ""
) -> Source:
    """Open pictures, or a table, for packing, and return them; the path and its content tell the kind.

    Args:
        location: a folder of pictures (sub-folders are classes), a `.zip` of the same layout, an idx images file or a
            folder of them, an `.npz` with `images` and `labels`, or tars: a folder, one, a glob, a brace list; or a
            `.csv` or `.tsv` of numbers.
        split: name of the split, which chooses the files of an idx folder.
        labels: read the labels; without them the data set is unconditional.
        label_column: the column of a table that holds the labels, by its name or number; "": it has none.

    Raises:
        SourceError: there is nothing, its kind is unknown, or see the reader of the kind.
    """
    text = os.fspath(location)
    path = Path(text)
    if label_column and not is_table(path):
        raise SourceError(f"{path}: is no table, so it has no column {label_column!r} (--label-column)")
    if path.is_dir():
        return _open_directory(path, split=split, labels=labels)
    if path.suffix == ".tar" or any(sign in text for sign in "*?[{"):
        return open_shards(_expand(text), name=path.name.split("-")[0].split("{")[0] or "shards", labels=labels)
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if is_table(path):
        return open_table(path, labels=labels, label_column=label_column)
    if path.suffix == ".zip":
        return open_zip(path, labels=labels)
    if path.suffix == ".npz":
        return open_npz(path, labels=labels)
    if path.name.removesuffix(".gz").endswith("-ubyte"):
        return open_idx(path, labels=labels)
    raise SourceError(
        f"{path}: cannot pack this; give a folder of pictures, a .zip, an .npz, an idx images file, .tar shards, or a "
        f".csv or .tsv of numbers"
    )


def _open_directory(path: Path, *, split: str, labels: bool) -> Source:
    if (path / MANIFEST_NAME).exists() and (resolutions := load_resolutions(path)):
        raise SourceError(f"{path}: holds several resolutions; pack from one of {sorted(resolutions.values())}")
    if tars := sorted(path.glob("*.tar")):
        return open_shards(tars, name=path.resolve().name, labels=labels)
    if images := find_idx(path, split=split):
        return open_idx(images, labels=labels)
    return open_folder(path, labels=labels)


def _expand(text: str) -> list[Path]:
    """Return the paths of a brace list and globs, each of which must exist."""
    from braceexpand import braceexpand  # WebDataset's own, so that lists mean the same to both

    paths: list[Path] = []
    for pattern in braceexpand(text) if "{" in text else [text]:
        found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not found or not all(os.path.isfile(name) for name in found):
            raise SourceError(f"{pattern}: no such shard")
        paths.extend(map(Path, found))
    return paths
