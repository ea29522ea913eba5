"""Pictures as one array: the idx files of MNIST and its family, and npz files. Nothing is unpickled.

The idx format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type byte (8 = uint8), the number of dimensions,
one big-endian uint32 per dimension, then the values.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from framework.archives import check_archive
from framework.bounded import open_regular
from framework.data.readers.base import Labels, Pixels, Source, SourceError, as_labels
from framework.errors import FrameworkError

_UINT8 = 8
_MOST_TIMES = 1100  # flat pictures are all alike, and deflate shrinks 1032 times at most
_SPLIT_PREFIXES = {"train": "train", "test": "t10k", "validation": "t10k"}


def find_idx(folder: Path, *, split: str) -> Path | None:
    """The images file of a split in a folder of the MNIST family, or None."""
    found = sorted(folder.glob("*-images-idx?-ubyte*"))
    if not found:
        return None
    prefix = _SPLIT_PREFIXES.get(split, split)
    for path in found:
        if path.name.startswith(f"{prefix}-"):
            return path
    raise SourceError(f"{folder}: no images file for split {split!r} (starting with `{prefix}-`) among {found}")


def open_idx(path: Path, *, labels: bool = True) -> Source:
    """Pictures of `*-images-idx3-ubyte[.gz]` with the labels of the file named alike beside it.

    Raises:
        SourceError: not such a file, damaged, or no labels file beside it.
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
    """Array of an idx file of uint8 values, gzipped or not."""
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UINT8 or len(data) < 4 + 4 * data[3]:
        raise SourceError(f"{path}: is not an idx file of uint8 values (starts with {data[:4].hex(' ')})")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != np.prod(shape, dtype=np.int64):
        raise SourceError(f"{path}: damaged: {values.size} values, its head says {' x '.join(map(str, shape))}")
    return values.reshape(shape)


def open_npz(path: Path, *, labels: bool = True) -> Source:
    """Pictures of the array `images`, uint8 (N, H, W[, C]), with the labels of the array `labels`, whole numbers (N,).

    Raises:
        SourceError: not an npz, no such arrays, wrong types, or an array that would have to be unpickled.
    """
    images, values = load_npz(path, labels=labels)
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4):
        found = "none" if images is None else f"{images.dtype} {images.shape}"
        raise SourceError(f"{path}: needs an array `images`, uint8 (N, H, W) or (N, H, W, C); found {found}")
    return _from_arrays("npz", path, images, None if values is None else as_labels(values, origin=path))


def load_npz(path: Path, *, labels: bool = True) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The arrays `images` and `labels` of an npz, None where there is none.

    Raises:
        SourceError: not an npz, one that holds an array twice, or one that would have to be unpickled.
    """
    try:
        file = open_regular(path, error=SourceError)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read as an npz ({error})") from None
    with file:
        return _of_npz(file, path, labels=labels)


def _of_npz(file: BinaryIO, path: Path, *, labels: bool) -> tuple[np.ndarray | None, np.ndarray | None]:
    try:
        arrays = np.load(file, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise SourceError(f"{path}: is one array, not an npz; write it with np.savez(path, images=..., labels=...)")
        with arrays:
            assert arrays.zip is not None  # while it is open
            check_archive(arrays.zip, num_bytes=path.stat().st_size, source=path, most_times=_MOST_TIMES)
            if len(set(arrays.files)) < len(arrays.files):
                raise SourceError(f"{path}: holds an array twice ({', '.join(arrays.files)}); write it anew")
            return arrays.get("images"), arrays.get("labels") if labels else None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read as an npz ({error})") from None
    except FrameworkError as error:
        raise SourceError(str(error)) from None
    except MemoryError:
        raise SourceError(f"{path}: asks for more memory than there is") from None
    except Exception as error:  # NumPy's word for an array of objects, which only pickle could read
        raise SourceError(f"{path}: cannot be read as an npz of plain arrays ({error})") from None


def _from_arrays(kind: str, path: Path, images: Pixels, labels: Labels | None) -> Source:
    channels = images.shape[3] if images.ndim == 4 else 1
    if channels not in (1, 3):
        raise SourceError(f"{path}: {channels} channels; need 1 (grey) or 3 (RGB), as the last dimension")
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
