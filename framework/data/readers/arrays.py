"""Reads pictures that are one array: the idx files of MNIST and its family, and npz files. Nothing is unpickled.

The idx format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type byte (8 = uint8), the number of dimensions,
one big-endian uint32 per dimension, then the values.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from framework.data.readers.base import Labels, Pixels, Source, SourceError, as_labels
from framework.utils.archives import Arrays
from framework.utils.bounded import element_count, open_regular
from framework.utils.errors import FrameworkError

_UINT8 = 8
_MOST_TIMES = 100  # drawings and masks shrink to that part
_FREE_BYTES = 64 << 20  # what any file may unpack to: pictures of one colour shrink a thousand times
_CHUNK_BYTES = 1 << 20
_SPLIT_PREFIXES = {"train": "train", "test": "t10k", "validation": "t10k"}


def find_idx(folder: Path, *, split: str) -> Path | None:
    """Return the images file of a split in a folder of the MNIST family; None where there is no images file.

    Raises:
        SourceError: there is none for this split.
    """
    found = sorted(folder.glob("*-images-idx?-ubyte*"))
    if not found:
        return None
    prefix = _SPLIT_PREFIXES.get(split, split)
    for path in found:
        if path.name.startswith(f"{prefix}-"):
            return path
    raise SourceError(f"{folder}: no images file for split {split!r} (starting with `{prefix}-`) among {found}")


def open_idx(path: Path, *, labels: bool = True) -> Source:
    """Return the pictures of `*-images-idx3-ubyte[.gz]`, with the labels of the file beside it that is named alike.

    Raises:
        SourceError: it is no such file, is damaged, or has no labels file beside it.
    """
    images = read_idx(path)
    if images.ndim not in (3, 4):
        raise SourceError(f"{path}: holds {images.ndim} dimensions; images need 3 (grey) or 4 (with channels last)")
    values = None
    if labels:
        stem = path.name.removesuffix(".gz").replace("images-idx3", "labels-idx1").replace("images-idx4", "labels-idx1")
        beside = [path.with_name(name) for name in (stem, f"{stem}.gz") if (path.parent / name).exists()]
        if stem == path.name.removesuffix(".gz") or not beside:
            raise SourceError(f"{path}: no labels file {stem}[.gz] beside it; add it, or pack with labels off")
        values = as_labels(read_idx(beside[0]), origin=beside[0])
    return _from_arrays("idx", path, images, values)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Return the array in an idx file of uint8 values, gzipped or not, in the shape that its head says.

    Raises:
        SourceError: it cannot be read, is no such file, or is damaged.
    """
    try:
        with open_regular(path, error=SourceError) as raw:
            num_bytes = os.fstat(raw.fileno()).st_size
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                return _read_values(file, path, most_bytes=max(_FREE_BYTES, _MOST_TIMES * num_bytes))
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from None


def _read_values(file: BinaryIO | gzip.GzipFile, path: Path, *, most_bytes: int) -> npt.NDArray[np.uint8]:
    """Return the array in an idx file, in no more memory than `most_bytes`."""
    start = file.read(4)
    head = file.read(4 * start[3]) if len(start) == 4 else b""
    if start[:3] != bytes((0, 0, _UINT8)) or len(start) < 4 or len(head) < 4 * start[3]:
        raise SourceError(f"{path}: is not an idx file of uint8 values (starts with {start.hex(' ')})")
    shape = struct.unpack(f">{start[3]}I", head)
    count = element_count(shape, source=path, error=SourceError)
    if count > most_bytes:
        raise SourceError(f"{path}: damaged: its head says {_times(shape)} values, which its bytes cannot hold")
    content = bytearray()
    while len(content) <= count and (chunk := file.read(min(_CHUNK_BYTES, count + 1 - len(content)))):
        content += chunk
    if len(content) != count:
        found = "more" if len(content) > count else str(len(content))
        raise SourceError(f"{path}: damaged: {found} values, its head says {_times(shape)}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def open_npz(path: Path, *, labels: bool = True) -> Source:
    """Return the pictures in the array `images`, uint8 (N, H, W[, C]), with the labels in `labels`, whole numbers (N,).

    Raises:
        SourceError: it is no npz, has no such arrays or others of these names, or one that would have to be unpickled.
    """
    images, values = load_npz(path, labels=labels)
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4):
        found = "none" if images is None else f"{images.dtype} {images.shape}"
        raise SourceError(f"{path}: needs an array `images`, uint8 (N, H, W) or (N, H, W, C); found {found}")
    return _from_arrays("npz", path, images, None if values is None else as_labels(values, origin=path))


def load_npz(path: Path, *, labels: bool = True) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the arrays `images` and `labels` of an npz in their stored shapes and types, None where there is none.

    Raises:
        SourceError: it is no npz, holds an array twice, or one that would have to be unpickled.
    """
    try:
        with Arrays(path, most_times=_MOST_TIMES) as arrays:
            listed = arrays.listed
            if len(set(listed)) < len(listed):
                raise SourceError(f"{path}: holds an array twice ({', '.join(listed)}); write it anew")
            wanted = ("images", "labels") if labels else ("images",)
            found = {name: arrays[name] for name in wanted if name in arrays}
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{path}: cannot be read as an npz ({error.strerror or error})") from None
    except FrameworkError as error:
        hint = "write it with np.savez(path, images=..., labels=...)"
        raise SourceError(f"{path}: cannot be read as an npz of plain arrays ({error}); {hint}") from None
    return found.get("images"), found.get("labels")


def _from_arrays(kind: str, path: Path, images: Pixels, labels: Labels | None) -> Source:
    channels = images.shape[3] if images.ndim == 4 else 1
    if channels not in (1, 3):
        raise SourceError(f"{path}: {channels} channels; need 1 (grey) or 3 (RGB), as the last dimension")
    if 0 in images.shape[1:]:
        raise SourceError(f"{path}: pictures of {images.shape[2]}x{images.shape[1]} pixels; they need a side")
    pixels = images[..., 0] if images.ndim == 4 and channels == 1 else images
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images).reshape(-1).data)
    if labels is not None:
        digest.update(labels.astype("<i8").tobytes())
    return Source(
        kind=kind,
        name=path.name.removesuffix(".gz").removesuffix(".npz"),
        names=[f"{path.name}[{index}]" for index in range(len(images))],
        read=lambda index: pixels[index],
        digest=digest.hexdigest(),
        modified_ns=path.stat().st_mtime_ns,
        labels=labels,
        channels=channels,
    )
