"""Reads pictures in another WebDataset on this machine: a folder of tars, one tar, a glob, or a brace list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from framework.data.errors import ShardError
from framework.data.index import Member, SampleIndex, index_shard
from framework.data.labels import parse_label
from framework.data.manifest import MANIFEST_NAME, Manifest, load_manifest
from framework.data.readers.base import BadImageError, Labels, Source, as_labels, digest_rows
from framework.utils.bounded import open_descriptor
from framework.utils.pictures import MOST_BYTES


def open_shards(paths: Sequence[Path], *, name: str, labels: bool = True) -> Source:
    """Return the pictures in tar files, in the order of the shards, with labels from the `.cls` members.

    Class names and channels come from a `manifest.json` beside the shards, where there is one.

    Raises:
        ShardError: a shard is damaged, a sample has no picture or an unusable label, or only some have a label.
    """
    samples = [(path, sample) for path in paths for sample in index_shard(path)]
    pictures = [(path, _picture(path, sample)) for path, sample in samples]
    manifest = _manifest_beside(paths)

    def read(index: int) -> bytes:
        path, member = pictures[index]
        return _read_member(path, member)

    status = {path: path.stat() for path in paths}
    return Source(
        kind="webdataset",
        name=manifest.name if manifest else name,
        names=[f"{path.name}/{member.name}" for path, member in pictures],
        read=read,
        digest=digest_rows((path.name, path.stat().st_size) for path in paths),
        modified_ns=max(status[path].st_mtime_ns for path in paths),
        labels=_labels(samples) if labels else None,
        class_names=manifest.class_names if manifest and labels else (),
        channels=manifest.channels if manifest else None,
    )


def _picture(path: Path, sample: SampleIndex) -> Member:
    member = sample.picture()
    if member is None:
        raise ShardError(path, sample.no_picture(), key=sample.key)
    return member


def _labels(samples: Sequence[tuple[Path, SampleIndex]]) -> Labels | None:
    members = [(path, sample.key, sample.find("cls")) for path, sample in samples]
    if not any(member for _, _, member in members):
        return None
    values: list[int] = []
    for path, key, member in members:
        if member is None:
            raise ShardError(path, "has no `.cls`, others have one", key=key)
        try:
            values.append(parse_label(_read_member(path, member)))
        except ValueError as error:
            raise ShardError(path, f".cls is unusable: {error}", key=key) from None
    return as_labels(values, origin=samples[0][0].parent)


def _read_member(path: Path, member: Member) -> bytes:
    if member.size > MOST_BYTES:
        raise BadImageError(f"has {member.size} bytes; at most {MOST_BYTES} are read")
    try:
        file = open_descriptor(path, error=BadImageError)
    except OSError as error:
        raise BadImageError(f"shard cannot be opened ({error.strerror})") from None
    try:
        data = os.pread(file, member.size, member.offset)
    finally:
        os.close(file)
    if len(data) != member.size:
        raise BadImageError(f"shard ends after {len(data)} of {member.size} bytes")
    return data


def _manifest_beside(paths: Sequence[Path]) -> Manifest | None:
    folders = {path.parent for path in paths}
    folder = folders.pop()
    return load_manifest(folder) if not folders and (folder / MANIFEST_NAME).exists() else None
