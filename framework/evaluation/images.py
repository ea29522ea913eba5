"""Sets of images that are judged or compared with: a folder of files, an `.npz`, or packed shards.

Images are numbered, and ranks share them in batches of a fixed size: batch i goes to rank i modulo the number of ranks.
So which images meet in a batch, and with it every rounding, does not depend on how many ranks there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from framework.archives import Arrays
from framework.bounded import open_regular
from framework.data.inspection import report_on
from framework.data.manifest import file_sha256
from framework.data.stream import open_stream
from framework.errors import FrameworkError
from framework.evaluation.errors import EvaluationError
from framework.pictures import opened

BATCH_SIZE = 50
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MOST_TIMES = 1100  # images of a collapsed generator are all alike, and deflate shrinks 1032 times at most
_ORDER_SEED = 0


class Part(NamedTuple):
    """Images of consecutive positions: uint8 (n, 3, H, W) and labels (n,), 0 without classes."""

    start: int
    images: Tensor
    labels: Tensor


class ImageSet(Protocol):
    """What an evaluation asks of images."""

    @property
    def count(self) -> int:
        """Images there are."""
        ...

    @property
    def classes(self) -> int:
        """0 without labels."""
        ...

    @property
    def endless(self) -> bool:
        """More than `count` can be had (a generator)."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What identifies it, for the protocol."""
        ...

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """This rank's batches of the first `count` images."""
        ...


def batch_ranges(count: int, *, rank: int, world: int, batch_size: int = BATCH_SIZE) -> Iterator[range]:
    """Positions of this rank's batches: every world-th batch of a fixed size."""
    for start in range(rank * batch_size, count, world * batch_size):
        yield range(start, min(start + batch_size, count))


def even_batch_ranges(count: int, *, rank: int, world: int) -> Iterator[tuple[range, bool]]:
    """As `batch_ranges`, and equally many on every rank: (positions, whether they are this rank's to keep).

    For generators: sharded engines communicate in their forward, so every rank must run the network equally often.
    """
    mine = batch_ranges(count, rank=rank, world=world)
    for _ in batch_ranges(count, rank=0, world=world):
        positions = next(mine, None)
        yield positions or range(1), positions is not None


def open_images(location: str | Path, *, resolution: int | None = None, classes: int | None = None) -> ImageSet:
    """The images at a location: a folder of pictures, an `.npz` of `framework sample --npz`, or shards.

    Args:
        resolution: of shards: side to read; default: as stored.
        classes: of shards: number of classes; default: the manifest's.

    Raises:
        FrameworkError: nothing there, or it cannot be read.
    """
    path = Path(location)
    if path.suffix == ".npz":
        return ArrayImages(path)
    if path.is_dir() and not (path / "manifest.json").exists() and not any(path.glob("*.tar")):
        return FolderImages(path)
    return ShardImages(str(location), resolution=resolution, classes=classes)


class FolderImages:
    """Picture files of one folder, in the order of their names; all of one size."""

    endless = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.classes = folder, 0
        self.files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not self.files:
            raise EvaluationError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)}) and no shards")
        self.count = len(self.files)
        self._size = _read_picture(self.files[0]).shape

    def describe(self) -> dict[str, Any]:
        """Kind, content hash and size."""
        return {
            "kind": "folder",
            "content_sha256": _digest(file_sha256(path) for path in self.files),
            "resolution": list(self._size[:2]),
        }

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """See `ImageSet`."""
        for positions in batch_ranges(count, rank=rank, world=world):
            pictures = [_read_picture(self.files[i]) for i in positions]
            for file, picture in zip(self.files[positions.start :], pictures, strict=False):
                if picture.shape != self._size:
                    raise EvaluationError(
                        f"{file}: is {picture.shape[1]}x{picture.shape[0]} pixels, {self.files[0].name} is "
                        f"{self._size[1]}x{self._size[0]}; bring all pictures to one size first"
                    )
            yield _part(positions.start, np.stack(pictures), None)


class ArrayImages:
    """`images` (N, H, W, C) uint8 and `labels` (N,) in an `.npz` file."""

    endless = False

    def __init__(self, path: Path) -> None:
        try:
            with Arrays(path, most_times=_MOST_TIMES) as arrays:
                self._images = arrays["images"]
                self._labels = next((arrays[name] for name in arrays if name == "labels"), None)
        except (OSError, FrameworkError) as error:
            raise EvaluationError(
                f"{path}: not an .npz with `images`, as `framework sample --npz` writes ({error})"
            ) from None
        if self._images.dtype != np.uint8 or self._images.ndim != 4 or self._images.shape[3] not in (1, 3):
            raise EvaluationError(
                f"{path}: `images` is {self._images.dtype} {self._images.shape}, must be uint8 (N, H, W, 1 or 3)"
            )
        self.path, self.count = path, len(self._images)
        if self._labels is not None and not _are_classes(self._labels, self.count):
            raise EvaluationError(
                f"{path}: `labels` is {self._labels.dtype} {self._labels.shape}, must be {self.count} class numbers"
            )
        self.classes = 0 if self._labels is None or not self._labels.any() else int(self._labels.max()) + 1

    def describe(self) -> dict[str, Any]:
        """Kind, content hash and size."""
        return {
            "kind": "npz",
            "content_sha256": file_sha256(self.path),
            "resolution": list(self._images.shape[1:3]),
        }

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """See `ImageSet`."""
        for positions in batch_ranges(count, rank=rank, world=world):
            rows = slice(positions.start, positions.stop)
            yield _part(positions.start, self._images[rows], None if self._labels is None else self._labels[rows])


class ShardImages:
    """A packed data set in a fixed shuffled order, so that the first N are a fair choice; no flips."""

    endless = False

    def __init__(
        self, location: str, *, resolution: int | None = None, classes: int | None = None, **cache: Any
    ) -> None:
        """Open it; `cache` holds `open_stream`'s arguments about remote shards."""
        if resolution is None or classes is None:
            largest = max(report_on(location, num_keys=0), key=lambda report: report["resolution"])
            resolution = resolution or int(largest["resolution"])
            classes = int(largest["classes"]) if classes is None else classes
        self._stream = open_stream(
            location,
            resolution=resolution,
            channels=3,
            classes=classes,
            seed=_ORDER_SEED,
            workers=1,
            worker_kind="thread",
            **cache,
        )
        self._resolution, self.classes, self.count = resolution, classes, self._stream.count

    @property
    def label_counts(self) -> tuple[int, ...]:
        """Images per class, where the manifest tells."""
        return self._stream.manifest.label_counts

    def describe(self) -> dict[str, Any]:
        """Name, split, the manifest's fingerprint, and how the pictures were made and ordered."""
        manifest, order = self._stream.manifest, self._stream.order
        return {
            "kind": "shards",
            "name": manifest.name,
            "split": manifest.split,
            "fingerprint": manifest.fingerprint,
            "resolution": [self._resolution, self._resolution],
            "stored_resolution": manifest.resolution,
            "resize_filter": manifest.resize_filter,
            "encoding": manifest.encoding,
            "order": f"seed {_ORDER_SEED}, window {order.window}, lanes {order.lanes}",
        }

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """See `ImageSet`."""
        whole = count // (world * BATCH_SIZE) * world * BATCH_SIZE
        if whole:
            share = {"batch_size": world * BATCH_SIZE, "rank": rank, "world": world, "stop": whole}
            with self._stream.batches(0, **share) as batches:
                for batch in batches:
                    yield Part(batch.positions[0], batch.images, batch.labels)
        start = whole + rank * BATCH_SIZE  # what is left is cut as one rank alone would cut it
        if start < count:
            stop = min(start + BATCH_SIZE, count)
            with self._stream.batches(start, batch_size=BATCH_SIZE, stop=stop) as batches:
                for batch in batches:
                    yield Part(start, batch.images, batch.labels)


def _are_classes(labels: np.ndarray, count: int) -> bool:
    return labels.dtype.kind in "iu" and labels.shape == (count,) and bool((labels.astype(np.int64) >= 0).all())


def _part(start: int, pixels: np.ndarray, labels: np.ndarray | None) -> Part:
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    numbers = (
        torch.zeros(len(images), dtype=torch.int64) if labels is None else torch.from_numpy(labels.astype(np.int64))
    )
    return Part(start, images.expand(-1, 3, -1, -1).contiguous(), numbers)


def _read_picture(path: Path) -> np.ndarray:
    try:
        with open_regular(path) as file, opened(file, source=path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, FrameworkError) as error:
        raise EvaluationError(f"{path}: cannot be read as a picture ({error})") from None


def _digest(parts: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
    return digest.hexdigest()
