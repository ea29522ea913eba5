"""Sets of samples that are judged or compared with: picture files in a folder or a zip, an `.npz`, or shards.

Samples are numbered, and ranks share them in batches of a fixed size: batch i goes to rank i modulo the number of
ranks. So which samples meet in a batch, and with it every rounding, does not depend on how many ranks there are.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from framework.data.fields import Picture
from framework.data.inspection import report_on
from framework.data.manifest import file_sha256
from framework.data.pictures import RULE, picture_header, read_picture
from framework.data.readers import BadImageError, SourceError
from framework.data.readers.arrays import load_npz
from framework.data.readers.base import as_labels
from framework.data.readers.files import in_words, open_folder, open_zip
from framework.data.sources import FOREIGN
from framework.data.stream import Batch, open_stream
from framework.evaluation.errors import EvaluationError
from framework.sampling.sampler import BATCH_SIZE
from framework.sampling.stored import StoredSamples

SEVERAL_SIZES = "several"
_ORDER_SEED = 0
_log = logging.getLogger(__name__)


class Part(NamedTuple):
    """Samples of consecutive positions from `start`, as named tensors (n, ...) on the host.

    Pictures are uint8 (n, C, H, W); `label`, int64 (n,), is there where there are classes.
    """

    start: int
    samples: Mapping[str, Tensor]
    picture: str | None = "image"
    """Name of the pictures that metrics of pictures judge; None where samples are something else."""

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(next(iter(self.samples.values())))

    @property
    def images(self) -> Tensor:
        """The judged pictures, uint8 (n, 3, H, W); grey ones are three times the same."""
        assert self.picture is not None, "metrics of pictures were asked for other samples"
        return self.samples[self.picture].expand(-1, 3, -1, -1)

    @property
    def labels(self) -> Tensor:
        """The labels (n,) int64; zeros without classes."""
        return self.samples.get("label", torch.zeros(self.size, dtype=torch.int64))


class SampleSet(Protocol):
    """A numbered set of samples, as evaluations see it."""

    @property
    def count(self) -> int:
        """Number of samples in the set."""
        ...

    @property
    def picture(self) -> str | None:
        """Name of the pictures among a sample's tensors; None where samples are something else."""
        ...

    @property
    def classes(self) -> int:
        """Number of classes; 0 without labels."""
        ...

    @property
    def endless(self) -> bool:
        """Whether more than `count` samples can be drawn, as from a generator."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return the facts that identify the set, for the protocol."""
        ...

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this rank's batches of the first `count` samples, on the host."""
        ...


def batch_ranges(count: int, *, rank: int, world: int, batch_size: int = BATCH_SIZE) -> Iterator[range]:
    """Yield the positions of this rank's batches: every world-th batch of a fixed size."""
    for start in range(rank * batch_size, count, world * batch_size):
        yield range(start, min(start + batch_size, count))


def even_batch_ranges(count: int, *, rank: int, world: int) -> Iterator[tuple[range, bool]]:
    """Yield what `batch_ranges` yields, equally often on every rank: (positions, whether this rank keeps them).

    Generators need this: sharded engines communicate in their forward, so all ranks must run the network equally often.
    """
    mine = batch_ranges(count, rank=rank, world=world)
    for _ in batch_ranges(count, rank=0, world=world):
        positions = next(mine, None)
        yield positions or range(1), positions is not None


def open_images(location: str | Path, *, resolution: int | None = None, classes: int | None = None) -> SampleSet:
    """Open the images at a location: pictures in a folder or a zip, an `.npz` of `framework sample --npz`, or shards.

    Args:
        resolution: for shards, the side in pixels at which they are read; default: as stored.
        classes: for shards, the number of classes; default: the manifest's.

    Raises:
        FrameworkError: there is nothing, or it cannot be read.
    """
    path = Path(location)
    if path.suffix == ".npz":
        return ArrayImages(path)
    if path.suffix == ".zip":
        return FolderImages(path)
    if path.is_dir() and not (path / "manifest.json").exists() and not any(path.glob("*.tar")):
        return FolderImages(path)
    return ShardImages(str(location), resolution=resolution, classes=classes)


def notes_on(*sets: SampleSet | None) -> list[str]:
    """Return a sentence for each set in which some files are not looked at."""
    folders = [images for images in sets if isinstance(images, FolderImages) and images.left_out]
    return [f"{folder.location}: not read, because no picture's suffix: {folder.left_out}" for folder in folders]


class FolderImages:
    """Picture files in a folder, at any depth, or in a zip, in the order of their paths; hidden files are left out.

    Each is read by the rule of `framework.data.pictures`, as `framework pack` reads it. Sub-folders are not taken for
    classes. Sizes may differ: a batch is then cut where the size changes.
    """

    endless, classes, picture = False, 0, "image"

    def __init__(self, location: Path) -> None:
        try:
            self._source = (open_zip if location.suffix == ".zip" else open_folder)(location, labels=False)
        except SourceError as error:
            raise EvaluationError(f"{location}: {error}") from None
        self.location, self.count, self._told_of_frames = location, len(self._source), False

    @property
    def left_out(self) -> str:
        """Counts of the files that are not read, such as "3 .txt, 1 .mp4"; empty where all are read."""
        return in_words(self._source.ignored)

    def describe(self) -> dict[str, Any]:
        """Return kind, content hash, size, and how the pictures are read."""
        return dict(self._described)

    @functools.cached_property
    def _described(self) -> dict[str, Any]:
        hashes, sizes = [], set()
        for number in range(self.count):
            content = self._content(number)
            hashes.append(hashlib.sha256(content).hexdigest())
            with contextlib.suppress(ValueError):  # the rank that is to read it says what is wrong with it
                sizes.add(picture_header(content)[:2])
        return {
            "kind": self._source.kind,
            "content_sha256": _digest(iter(hashes)),
            "resolution": list(sizes.pop()) if len(sizes) == 1 else SEVERAL_SIZES,
            "reading": RULE,
        }

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this rank's batches of the first `count` images; see `SampleSet.parts`."""
        for positions in batch_ranges(count, rank=rank, world=world):
            start = positions.start
            for _, pictures in itertools.groupby(map(self._pixels, positions), key=np.shape):
                same_size = np.stack(list(pictures))
                yield _part(start, same_size, None)
                start += len(same_size)

    def _content(self, number: int) -> bytes:
        try:
            content = self._source.read(number)
        except BadImageError as error:
            raise self._unreadable(number, error) from None
        assert isinstance(content, bytes)
        return content

    def _pixels(self, number: int) -> np.ndarray:
        try:
            picture = read_picture(self._content(number))
        except ValueError as error:
            raise self._unreadable(number, error) from None
        except MemoryError:
            raise self._unreadable(number, MemoryError("needs more memory than there is")) from None
        if picture.animated and not self._told_of_frames:
            self._told_of_frames = True
            name = self._source.names[number]
            _log.warning("%s: of pictures with several frames the first is used, as of %s", self.location, name)
        return np.asarray(picture.image.convert("RGB"))

    def _unreadable(self, number: int, error: Exception) -> EvaluationError:
        return EvaluationError(f"{self.location / self._source.names[number]}: cannot be read as a picture ({error})")


class ArrayImages:
    """Images in an `.npz` file: `images` (N, H, W) or (N, H, W, C) uint8, and perhaps `labels` (N,)."""

    endless, picture = False, "image"

    def __init__(self, path: Path) -> None:
        try:
            images, values = load_npz(path)
            self._labels = None if values is None else as_labels(values, origin=path)
        except SourceError as error:
            raise EvaluationError(str(error)) from None
        if images is None or images.dtype != np.uint8 or (images.ndim != 3 and images.shape[3:] not in ((1,), (3,))):
            found = "absent" if images is None else f"{images.dtype} {images.shape}"
            raise EvaluationError(f"{path}: `images` is {found}, must be uint8 (N, H, W) or (N, H, W, 1 or 3)")
        self._images = images[..., None] if images.ndim == 3 else images
        if self._labels is not None and len(self._labels) != len(images):
            raise EvaluationError(f"{path}: {len(images)} images, but {len(self._labels)} labels")
        self.path, self.count = path, len(self._images)
        self.classes = 0 if self._labels is None or not self._labels.any() else int(self._labels.max()) + 1

    def describe(self) -> dict[str, Any]:
        """Return kind, content hash and size."""
        size = list(self._images.shape[1:3])
        return {"kind": "npz", "content_sha256": file_sha256(self.path), "resolution": size}

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this rank's batches of the first `count` images; see `SampleSet.parts`."""
        for positions in batch_ranges(count, rank=rank, world=world):
            rows = slice(positions.start, positions.stop)
            yield _part(positions.start, self._images[rows], None if self._labels is None else self._labels[rows])


class ShardImages:
    """A packed data set in a fixed shuffled order, so that the first N are a fair choice; no flips."""

    endless, picture = False, "image"

    def __init__(
        self, location: str, *, resolution: int | None = None, classes: int | None = None, **cache: Any
    ) -> None:
        """Open the data set; `cache` holds `open_stream`'s arguments about remote shards."""
        if resolution is None or classes is None:
            largest = max(report_on(location, num_keys=0), key=lambda report: report["resolution"])
            resolution = resolution or int(largest["resolution"])
            classes = int(largest["classes"]) if classes is None else classes
            if not resolution:
                raise EvaluationError(f"{location}: holds no pictures, but vectors")
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
        """Number of images per class; empty where the manifest does not tell."""
        return self._stream.manifest.label_counts

    def describe(self) -> dict[str, Any]:
        """Return name, split, the manifest's fingerprint, and how the pictures were made and ordered."""
        manifest, order = self._stream.manifest, self._stream.order
        # What `framework pack` wrote needs no rule to be read.
        reading = {"reading": RULE} if manifest.source.get("kind") == FOREIGN else {}
        return {
            **reading,
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
        """Yield this rank's batches of the first `count` images; see `SampleSet.parts`."""
        # As many images as fill a batch on every rank: batch i goes to rank i modulo the number of ranks.
        whole = count // (world * BATCH_SIZE) * world * BATCH_SIZE
        if whole:
            share = {"batch_size": world * BATCH_SIZE, "rank": rank, "world": world, "stop": whole}
            with self._stream.batches(0, **share) as batches:
                for batch in batches:
                    yield self._part(batch.positions[0], batch)
        # What is left is cut as one rank alone would cut it.
        start = whole + rank * BATCH_SIZE
        if start < count:
            stop = min(start + BATCH_SIZE, count)
            with self._stream.batches(start, batch_size=BATCH_SIZE, stop=stop) as batches:
                for batch in batches:
                    yield self._part(start, batch)

    def _part(self, start: int, batch: Batch) -> Part:
        return Part(start, {name: rows for name, rows in batch.fields.items() if name != "label" or self.classes})


class StoredField:
    """The pictures, or vectors, of one field of packed samples, in a fixed shuffled order; other fields come along."""

    endless, classes = False, 0

    def __init__(self, samples: StoredSamples, name: str) -> None:
        self._samples, self._name, self.count = samples, name, samples.count
        (self._field,) = (one for one in samples.fields if one.name == name)
        self.picture = name if isinstance(self._field, Picture) else None

    def describe(self) -> dict[str, Any]:
        """Return name, split, the manifest's fingerprint, and which field it is, of pictures with their size."""
        size = {"resolution": [self._field.height, self._field.width]} if isinstance(self._field, Picture) else {}
        return {
            "kind": "shards",
            **self._samples.describe(),
            "field": self._name,
            **size,
            "order": f"seed {_ORDER_SEED}",
        }

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this rank's batches of the first `count` samples; see `SampleSet.parts`."""
        for positions in batch_ranges(count, rank=rank, world=world):
            yield Part(positions.start, self._samples.rows(positions), self.picture)


def _part(start: int, pixels: np.ndarray, labels: np.ndarray | None) -> Part:
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    samples = {"image": images.expand(-1, 3, -1, -1).contiguous()}
    return Part(start, samples if labels is None else samples | {"label": torch.from_numpy(labels)})


def _digest(parts: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
    return digest.hexdigest()
