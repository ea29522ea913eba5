"""The form of every source of pictures for `framework pack`: a numbered list, read in any order, by any thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.data.errors import DataError
from framework.data.labels import MAX_CLASSES

Pixels = npt.NDArray[np.uint8]
"""Pixels from 0 to 255, (H, W) or (H, W, 3)."""
Labels = npt.NDArray[np.int64]
"""Class numbers, (N,)."""


class SourceError(DataError):
    """The pictures to pack cannot be found, listed, or brought together with their labels."""


class BadImageError(DataError):
    """One picture cannot be read, decoded or brought to the form asked for; `str(error)` is the reason."""


def _nothing() -> None:
    """Do nothing: there is nothing to close."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Pictures with their labels, before packing.

    Attributes:
        kind: "folder", "zip", "idx", "npz" or "webdataset".
        name: base name of the file or folder, without extension.
        names: one per picture, in source order, for errors.
        read: a function that gives for an index the encoded file (`bytes`) or pixels, uint8 (H, W) or (H, W, 3).
            Several threads may call it at once; it raises BadImageError.
        digest: SHA-256 in hex over what identifies the content (sizes and checksums, never dates).
        modified_ns: time of the latest change of the files, which shows edits since an interrupted run.
        labels: class numbers, int64 (N,), or None where the source has none.
        class_names: one per class, or empty.
        channels: 1 or 3 where the source says so itself.
        dims: of a source of vectors how many numbers each has; `read` then gives them as little-endian float32. 0 for
            pictures.
        read_parts: a function like `read` for a source of several pictures a sample, which gives all of them.
        ignored: suffix -> number of files that are not read because the suffix is not that of a picture.
        close: a function that closes open files.

    Raises:
        SourceError: there are no pictures, or not as many labels as pictures.
    """

    kind: str
    name: str
    names: Sequence[str]
    read: Callable[[int], bytes | Pixels]
    digest: str
    modified_ns: int
    labels: Labels | None = None
    class_names: tuple[str, ...] = ()
    channels: int | None = None
    dims: int = 0
    read_parts: Callable[[int], tuple[bytes | Pixels, ...]] | None = None
    ignored: Mapping[str, int] = field(default_factory=dict)
    close: Callable[[], None] = field(default=_nothing)

    def __post_init__(self) -> None:
        if not self.names:
            others = f", only files that are not read ({', '.join(self.ignored)})" if self.ignored else ""
            raise SourceError(f"{self.kind} {self.name!r} holds no pictures{others}")
        if self.labels is not None and len(self.labels) != len(self.names):
            raise SourceError(
                f"{self.kind} {self.name!r}: {len(self.names)} pictures, but {len(self.labels)} labels; "
                f"every picture needs exactly one, or pack with labels off"
            )

    def __len__(self) -> int:
        return len(self.names)

    def parts(self, index: int) -> tuple[bytes | Pixels, ...]:
        """Return the pictures of a sample, one for most sources; see `read`."""
        return (self.read(index),) if self.read_parts is None else self.read_parts(index)


def digest_rows(rows: Iterable[Sequence[Any]]) -> str:
    """Return the SHA-256 in hex of rows of words and numbers."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update("\0".join(map(str, row)).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def as_labels(values: object, *, origin: object, names: Sequence[str] = ()) -> Labels:
    """Return class numbers as int64 (N,).

    Args:
        values: numbers that were found, (N,).
        origin: name of the file in errors.
        names: names of the pictures in errors.

    Raises:
        SourceError: they are no flat list of whole numbers, or one is negative or above the largest accepted label.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise SourceError(f"{origin}: labels must be a flat list of whole numbers") from None
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SourceError(f"{origin}: labels must be a flat list of whole numbers, are {array.dtype} {array.shape}")
    wrong = np.flatnonzero((array < 0) | (array >= MAX_CLASSES))
    if len(wrong):
        first = int(wrong[0])
        why = "is negative" if array[first] < 0 else f"is above the largest accepted one, {MAX_CLASSES - 1}"
        raise SourceError(f"{origin}: label {array[first]} of picture {names[first] if names else first} {why}")
    return array.astype(np.int64)
