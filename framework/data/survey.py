"""Learns what shards made by others hold: each is read once in full, on first use, and a record is kept.

A record (`<shard>.survey.json`) and a `.idx` are kept beside a local shard, or in the cache folder where its own cannot
be written. The record of a local shard holds its size and modification time and is made anew when they change.
"""

from __future__ import annotations

import builtins
import collections
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from framework.data.errors import DataError, ShardError
from framework.data.index import SampleIndex, index_shard, write_index
from framework.data.labels import MAX_CLASSES, is_label, parse_label
from framework.data.manifest import ENCODINGS, Manifest, ShardEntry, file_sha256, index_name
from framework.data.pictures import picture_header
from framework.utils.atomic import write_atomically
from framework.utils.bounded import is_count, parse_json, read_file
from framework.utils.errors import FrameworkError
from framework.utils.pictures import MOST_BYTES
from framework.utils.redaction import redact_text

_LOG = logging.getLogger(__name__)
RECORD_SUFFIX = ".survey.json"
"""Ending of a record's name."""
_RECORD_FORMAT = 2
_MOST_RECORD_BYTES = 64 << 20  # a line for each of a million classes has half of it
_LOCK_SECONDS = 3600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSurvey:
    """The content of one shard.

    Attributes:
        count, bytes, sha256: see `ShardEntry`.
        resolution, channels: side in pixels and channels of the first picture.
        labels: label -> number of samples; samples without a usable `.cls` are not counted.
        encodings: kinds of pictures, "jpg", "png", "webp", ...
        unusable_label: sample and reason of the first `.cls` that holds no number; "" when there is none.
        modified_ns: modification time of a local file, 0 for others.
    """

    count: int
    bytes: int
    sha256: str
    resolution: int
    channels: int
    labels: dict[int, int]
    encodings: tuple[str, ...]
    unusable_label: str = ""
    modified_ns: int = 0

    def to_text(self) -> str:
        """Return the JSON text of the record."""
        return json.dumps({"format": _RECORD_FORMAT, **dataclasses.asdict(self)}) + "\n"

    @classmethod
    def from_text(cls, text: str | builtins.bytes) -> ShardSurvey | None:
        """Return the survey in the text of a record; None if it is not one of this format."""
        try:
            data = parse_json(text, source="record of a shard")
            if data.pop("format") != _RECORD_FORMAT:
                return None
            labels = {int(label): count for label, count in data.pop("labels").items()}
            survey = cls(labels=labels, encodings=tuple(data.pop("encodings")), **data)
        except (FrameworkError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return survey if survey._is_sound() else None

    def _is_sound(self) -> bool:
        """Return whether the fields have their types and can be true together; others may have written the record."""
        counts = (self.count, self.bytes, self.resolution, self.channels, self.modified_ns, *self.labels.values())
        texts = (self.sha256, self.unusable_label, *self.encodings)
        return (
            all(is_count(count, most=1 << 63) for count in counts)
            and all(isinstance(text, str) for text in texts)
            and all(0 <= label < MAX_CLASSES for label in self.labels)
            and sum(self.labels.values()) <= self.count
        )


def survey_shard(path: str | os.PathLike[str], *, sha256: str | None = None) -> tuple[ShardSurvey, list[SampleIndex]]:
    """Index a shard, hash it, count its labels and look at its first picture; return all that with its samples.

    Raises:
        ShardError: see `index_shard`; or a sample has no picture or a label that is too high, or the first picture is
            not square.
        OSError: the file cannot be read.
    """
    status = os.stat(path)
    samples = index_shard(path)
    labels: collections.Counter[int] = collections.Counter()
    encodings: set[str] = set()
    unusable_label = ""
    with open(path, "rb") as file:

        def read(offset: int, size: int) -> bytes:
            return os.pread(file.fileno(), size, offset)

        # A label that is no number makes all labels unusable; one that is too high is a fault of the shard.
        for sample in samples:
            picture, label = sample.picture(), sample.find("cls")
            if picture is None:
                raise ShardError(path, sample.no_picture(), key=sample.key)
            encodings.add("jpg" if picture.extension in ("jpeg", "jpe", "jfif") else picture.extension)
            if label is None:
                continue
            try:
                labels[parse_label(text := read(label.offset, min(label.size, 100)))] += 1
            except ValueError as error:
                if is_label(text):
                    raise ShardError(path, f".cls is unusable: {error}", key=sample.key) from None
                unusable_label = unusable_label or f"sample {sample.key}: .cls is unusable: {error}"
        # One picture stands for all: the others are checked when they are read.
        height, width, channels = _first_picture(path, samples, read)
    if height != width:
        size = f"{width}x{height}"
        raise ShardError(path, f"pictures are {size} pixels, need square ones; crop them with `framework pack`")
    survey = ShardSurvey(
        count=len(samples),
        bytes=status.st_size,
        sha256=sha256 or file_sha256(path),
        resolution=height,
        channels=channels,
        labels=dict(sorted(labels.items())),
        encodings=tuple(sorted(encodings)),
        unusable_label=unusable_label,
        modified_ns=status.st_mtime_ns,
    )
    return survey, samples


def _first_picture(
    path: object, samples: Sequence[SampleIndex], read: Callable[[int, int], bytes]
) -> tuple[int, int, int]:
    """Return height, width and channels of the first picture with a readable header; others fail when they are used."""
    for sample in samples:
        picture = sample.picture()
        try:
            if picture is not None:
                return picture_header(read(picture.offset, min(picture.size, MOST_BYTES)))
        except ValueError as error:
            reason = str(error)
    raise ShardError(path, f"holds no readable picture; the last one: {reason}", key=sample.key)


def survey_local(path: Path, *, cache_folder: Path) -> tuple[ShardSurvey, Path]:
    """Return the survey of a local shard, from its record or made now, and the path of its `.idx`.

    Raises:
        ShardError: it is missing, or see `survey_shard`.
        DataError: see `recorded`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ShardError(path, f"cannot be read ({error.strerror})") from None
    # Record and index lie beside the shard if possible.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    if os.access(path.parent, os.W_OK):
        index = path.with_name(index_name(path.name))
        record = path.with_name(path.name.removesuffix(".tar") + RECORD_SUFFIX)
    else:
        index, record = (
            cache_folder / "surveys" / f"{digest}.idx",
            cache_folder / "surveys" / f"{digest}{RECORD_SUFFIX}",
        )

    def is_current(known: ShardSurvey) -> bool:
        return index.exists() and (known.bytes, known.modified_ns) == (status.st_size, status.st_mtime_ns)

    def make() -> ShardSurvey:
        survey, samples = survey_shard(path)
        write_index(index, samples)
        return survey

    lock = cache_folder / "surveys" / f"{digest}.lock"
    return recorded(record, make, shard=path, lock=lock, is_current=is_current), index


def recorded(
    record: Path,
    make: Callable[[], ShardSurvey],
    *,
    shard: object,
    lock: Path,
    is_current: Callable[[ShardSurvey], bool] = lambda known: True,
) -> ShardSurvey:
    """Return the survey in a record file; if it is not there, one process makes and writes it while others wait.

    Args:
        record: path of the record.
        make: a function that makes the survey.
        shard: name of the shard in the log.
        lock: path of the lock.
        is_current: a function that tells whether a survey from the record still holds.

    Raises:
        DataError: another process holds the lock for an hour, or the record cannot be read.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=_LOCK_SECONDS):
            known = _read_record(record)
            if known is None or not is_current(known):
                _LOG.info("reading shard %s once in full, to index it", redact_text(str(shard)))
                known = make()
                write_atomically(record, known.to_text())
            return known
    except Timeout:
        raise DataError(f"{record}: another process holds {lock} for over an hour; end it and try again") from None


def _read_record(record: Path) -> ShardSurvey | None:
    """Return the survey in a record; None where there is none that can be used.

    Raises:
        DataError: it cannot be read, is no regular file, or is larger than any record.
    """
    try:
        return ShardSurvey.from_text(read_file(record, most_bytes=_MOST_RECORD_BYTES, error=DataError))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{record}: cannot be read ({error.strerror})") from None


def manifest_of(
    surveys: Sequence[ShardSurvey], names: Iterable[str], *, name: str, split: str, source: dict[str, Any]
) -> Manifest:
    """Return the manifest of surveyed shards; their number of classes is the highest label plus one.

    Raises:
        ManifestError: see `framework.data.manifest.validate`.
    """
    # Classes are known by their labels only.
    labels: collections.Counter[int] = collections.Counter()
    for survey in surveys:
        labels.update(survey.labels)
    classes = max(labels, default=-1) + 1
    complete = sum(labels.values()) == sum(survey.count for survey in surveys)
    encodings = {encoding for survey in surveys for encoding in survey.encodings}
    encoding = encodings.pop() if len(encodings) == 1 else "mixed"
    names = list(names)
    unusable = [f"shard {n}, {s.unusable_label}" for n, s in zip(names, surveys, strict=True) if s.unusable_label]
    return Manifest(
        name=name,
        split=split,
        resolution=surveys[0].resolution,
        channels=max(survey.channels for survey in surveys),
        classes=classes,
        label_counts=tuple(labels[label] for label in range(classes)) if complete else (),
        encoding=encoding if encoding in ENCODINGS else "mixed",
        source={**source, "unusable_label": unusable[0]} if unusable else source,
        shards=tuple(
            ShardEntry(name=shard, count=survey.count, bytes=survey.bytes, sha256=survey.sha256)
            for shard, survey in zip(names, surveys, strict=True)
        ),
    )
