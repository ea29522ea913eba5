"""Looks at a data set as a whole: finds its faults, reports what it holds, and makes a manifest for others' shards."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from framework.data.cache import ShardCache
from framework.data.errors import DataError, ManifestError
from framework.data.fetch import FetchOptions
from framework.data.fields import Field, Image, Label, LabelMap, Mask, fields_of_images
from framework.data.index import MAKE_ANEW, SampleIndex, index_shard, read_index
from framework.data.labels import MAX_CLASSES
from framework.data.manifest import (
    MANIFEST_NAME,
    FieldEntry,
    Manifest,
    file_sha256,
    load_resolutions,
    save_manifest,
)
from framework.data.plan import GlobalOrder
from framework.data.points import Vector
from framework.data.samples import ReadOptions, SampleReader
from framework.data.shards import Shards
from framework.data.sources import FOREIGN, Source, default_cache_folder, list_shards, open_source
from framework.data.survey import RECORD_SUFFIX, manifest_of, survey_local
from framework.utils.redaction import redact_text

Progress = Callable[[int, int], None]
"""A function to call with the number of pictures done, and that of all."""
_CACHE_BYTES = 50 << 30
_MOST_INDICES = 256  # of a label map, in 8 bits


@dataclasses.dataclass(kw_only=True)
class Faults:
    """The result of `find_faults`: what is wrong, and how much was looked at."""

    faults: list[str] = dataclasses.field(default_factory=list)
    """One text per fault, with shard and key."""
    num_shards: int = 0
    num_samples: int = 0
    num_decoded: int = 0
    """Number of pictures that were decoded."""


def parts_of(location: str) -> list[str]:
    """Return the sub-folders of a local folder with several resolutions; any other location is its only part."""
    folder = Path(location)
    if (folder / MANIFEST_NAME).is_file() and (table := load_resolutions(folder)):
        return [str(folder / name) for name in table.values()]
    return [location]


def open_any(location: str, *, cache_folder: Path | None = None) -> tuple[Source, ShardCache]:
    """Return a source in its stored resolution, and the cache for it.

    Raises:
        DataError: see `framework.data.sources.open_source`.
    """
    folder = cache_folder or default_cache_folder()
    options = FetchOptions()

    def cache() -> ShardCache:
        return ShardCache(folder, max_bytes=_CACHE_BYTES, options=options)

    return open_source(location, cache=cache, cache_folder=folder, options=options), cache()


def find_faults(
    location: str,
    *,
    sample: int | None = None,
    cache_folder: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Faults:
    """Check sizes, hashes, headers, indexes, labels and pictures, and return all faults.

    Args:
        location: see `framework.data.sources`; a folder with several resolutions is checked in all of them.
        sample: number of pictures to decode, spread evenly; None for all.
        cache_folder: folder for remote shards; None for the usual one.
        progress: a function that is called after each picture.
    """
    found = Faults()
    for part in parts_of(location):
        try:
            source, cache = open_any(part, cache_folder=cache_folder)
        except DataError as error:
            found.faults.append(str(error))
            continue
        _check_source(source, cache, sample, found, progress)
    return found


def _check_source(source: Source, cache: ShardCache, sample: int | None, found: Faults, progress: Progress) -> None:
    manifest = source.manifest
    unusable = manifest.source.get("unusable_label")
    # Samples are read as training reads them, and the first bad one does not end it.
    shards = Shards(source, cache=cache if source.remote else None, verify="size", max_indexes=1)
    options = ReadOptions(
        fields=_fields_in(manifest, classes=manifest.classes or (MAX_CLASSES if unusable else 0)),
        seed=0,
        flip=False,
        on_bad_sample="error",
        max_skipped=0,
    )
    order = GlobalOrder([shard.count for shard in manifest.shards], seed=0, window=1)
    out: dict[str, np.ndarray] = {}  # until a shard has been opened, its size is only what a manifest says
    labels: collections.Counter[int] = collections.Counter()
    chosen = _spread(manifest.count, sample)
    number, faults_before = 0, len(found.faults)
    # Every shard is checked, and the chosen pictures are decoded.
    with closing(SampleReader(shards, order, options)) as reader:
        for shard, entry in enumerate(manifest.shards):
            found.num_shards += 1
            for at, (descriptor, indexed) in enumerate(_samples(shards, shard, found.faults)):
                found.num_samples += 1
                if number + at not in chosen:
                    continue
                out = out or {name: np.empty(row.shape, row.dtype) for name, row in options.rows.items()}
                try:
                    reader.read(descriptor, indexed, source.addresses[shard], out)
                    labels[int(out["label"]) if "label" in out else 0] += 1
                except DataError as error:
                    found.faults.append(str(error))
                found.num_decoded += 1
                progress(found.num_decoded, len(chosen))
            number += entry.count
    if unusable and len(found.faults) == faults_before:  # its sample was not looked at
        found.faults.append(str(unusable))
    # Labels can be counted only where all samples could be read.
    counts = tuple(labels[label] for label in range(manifest.classes))
    complete = len(chosen) == manifest.count and len(found.faults) == faults_before
    if complete and manifest.label_counts and counts != manifest.label_counts:
        found.faults.append(f"{source.location}: label_counts of the manifest are not those of the samples: {counts}")


def _fields_in(manifest: Manifest, *, classes: int) -> tuple[Field, ...]:
    """Return what a manifest says of a sample, as fields to read it by; `classes` is 0 where there are no labels."""
    if not manifest.fields:
        return fields_of_images(resolution=manifest.resolution, channels=manifest.channels, classes=classes)
    pictures = [_field_of(entry) for entry in manifest.fields]
    return (*pictures, Label("label", classes)) if classes else tuple(pictures)


def _field_of(entry: FieldEntry) -> Field:
    size = (entry.height, entry.width)
    if entry.is_vector:
        return Vector(entry.name, entry.width)
    if entry.kind == "image":
        return Image(entry.name, size, entry.channels)
    return Mask(entry.name, size) if entry.kind == "mask" else LabelMap(entry.name, size, classes=_MOST_INDICES)


def _spread(count: int, sample: int | None) -> Collection[int]:
    """Return the numbers of so many samples of `count`, spread evenly, or those of all samples for None."""
    if sample is None or sample >= count:
        return range(count)
    return set(np.linspace(0, count - 1, sample).astype(int).tolist())


def _samples(shards: Shards, shard: int, faults: list[str]) -> Iterator[tuple[int, SampleIndex]]:
    """Yield the samples of a shard with its open file, if all its headers are sound; add what is wrong to `faults`."""
    source = shards.source
    name, entry = redact_text(source.addresses[shard]), source.manifest.shards[shard]
    try:
        descriptor = shards.open(shard)
    except DataError as error:
        faults.append(str(error))
        return
    # The bytes, the headers, and the index against both.
    try:
        path = shards.path(shard)
        if not source.remote and file_sha256(path) != entry.sha256:
            faults.append(f"shard {name}: the SHA-256 differs from the manifest's: damaged or replaced")
        samples = index_shard(path)
        try:
            if list(shards.index(shard)) != samples:
                faults.append(f"shard {name}: its index does not describe it; {MAKE_ANEW}")
        except ManifestError as error:
            faults.append(f"shard {name}: its index does not describe it: {error}")
        except DataError as error:
            faults.append(str(error))
        for sample in samples:
            yield descriptor, sample
    except DataError as error:
        faults.append(str(error).replace(str(path), name))
    finally:
        os.close(descriptor)


def index_foreign(location: str, *, name: str = "", split: str = "", force: bool = False) -> tuple[Path, Manifest]:
    """Write a `.idx` beside each shard of a folder and a `manifest.json` for all, and return folder and manifest.

    The shards are not changed.

    Args:
        location: a local folder, or a glob or brace list of shards in one.
        name: name of the data set; by default, that of the folder.
        split: name of the split, such as "train".
        force: replace an existing manifest.

    Raises:
        DataError: the location is not local, is in several folders, holds no shards or cannot be written, or there is a
            manifest already.
        ShardError: a shard is damaged.
    """
    # Refuse a location that cannot be indexed in place.
    if "://" in location or location.startswith("pipe:"):
        raise DataError(
            f"{redact_text(location)}: only local shards can be indexed in place; remote ones are on first use"
        )
    given = Path(location)
    folder = given if given.is_dir() else given.parent
    if (folder / MANIFEST_NAME).exists() and not force:
        raise DataError(f"{folder / MANIFEST_NAME}: exists; remove it or use --force to index the shards anew")
    paths = sorted(folder.glob("*.tar")) if given.is_dir() else list_shards(location)
    if not paths:
        raise DataError(f"{location}: no .tar shards")
    if any(path.parent != folder for path in paths):
        raise DataError(f"{location}: the shards are in several folders; a manifest covers one")
    if not os.access(folder, os.W_OK):
        raise DataError(
            f"{folder}: cannot be written; the stream indexes such shards on first use, in its cache folder"
        )
    # Read every shard, and join what was found.
    surveys = [survey_local(path, cache_folder=default_cache_folder())[0] for path in paths]
    source = {"kind": FOREIGN, "name": location}
    names = [path.name for path in paths]
    manifest = manifest_of(surveys, names, name=name or folder.name, split=split, source=source)
    save_manifest(manifest, folder)
    for path in paths:
        path.with_name(path.name.removesuffix(".tar") + RECORD_SUFFIX).unlink(missing_ok=True)  # the manifest knows
    return folder, manifest


def report_on(location: str, *, cache_folder: Path | None = None, num_keys: int = 5) -> list[dict[str, Any]]:
    """Return what a data set holds, one plain dictionary per resolution.

    Args:
        location: see `framework.data.sources`.
        cache_folder: folder for remote shards; None for the usual one.
        num_keys: number of keys to show from the first shard; a remote one shows none, as it would have to be fetched.

    Raises:
        DataError: see `open_any`.
    """
    return [_report(open_any(part, cache_folder=cache_folder)[0], num_keys) for part in parts_of(location)]


def _report(source: Source, num_keys: int) -> dict[str, Any]:
    manifest = source.manifest
    counts = [shard.count for shard in manifest.shards]
    size = sum(shard.bytes for shard in manifest.shards)
    return {
        "location": source.location,
        "name": manifest.name,
        "split": manifest.split,
        "count": manifest.count,
        "resolution": manifest.resolution,
        "channels": manifest.channels,
        "encoding": manifest.encoding,
        "fields": [dataclasses.asdict(entry) for entry in manifest.fields],
        "classes": manifest.classes,
        "class_names": list(manifest.class_names),
        "label_counts": list(manifest.label_counts),
        "num_shards": len(counts),
        "samples_per_shard": {"min": min(counts), "max": max(counts)},
        "bytes": size,
        "bytes_per_sample": round(size / manifest.count),
        "decoded_bytes": manifest.count * _decoded_bytes(manifest),
        "keys": [] if source.remote else [sample.key for sample in read_index(source.indexes[0])[:num_keys]],
        "fingerprint": manifest.fingerprint,
        "source": dict(manifest.source),
    }


def _decoded_bytes(manifest: Manifest) -> int:
    """Return the bytes of a sample's pixels and numbers."""
    if not manifest.fields:
        return manifest.channels * manifest.resolution**2
    return sum(entry.channels * entry.height * entry.width * (4 if entry.is_vector else 1) for entry in manifest.fields)
