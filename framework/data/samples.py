"""Turns a position into arrays: finds, reads, checks, decodes, crops and mirrors a sample, or names a bad one."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import operator
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from framework.data.errors import DataError, ManifestError, ShardError
from framework.data.fields import INDEX_SUFFIX, Decoder, Field, Label, Picture, Row
from framework.data.index import (
    BLOCK_BYTES,
    IMAGE_EXTENSIONS,
    OTHER_IMAGE_EXTENSIONS,
    Member,
    SampleIndex,
    refuse_unsafe,
)
from framework.data.plan import GlobalOrder, Place
from framework.data.schema import alone_of_their_class, check_sample, members_of, rows_of
from framework.data.shards import Shards
from framework.data.views import PLAIN, View, Views
from framework.utils.pictures import MOST_BYTES

OnBadSample = Literal["error", "skip"]
"""The policies for a sample that cannot be used."""
_PLAIN_EXTENSIONS = frozenset((*IMAGE_EXTENSIONS, *OTHER_IMAGE_EXTENSIONS, "cls", "json", "txt"))
_OPEN_FILES = 32
_TOUCH_SECONDS = 10.0
_OCTAL_SIZE_END = 8**11  # larger sizes are written in another form
_JOIN_GAP_BYTES = 1 << 16  # with a smaller gap between them, two members are read at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """The form in which samples are delivered, and what follows from a bad one.

    Raises:
        DataError: a value that cannot work.
    """

    fields: tuple[Field, ...]
    """The fields of a sample."""
    seed: int
    """Seed of order, crops and flips."""
    flip: bool
    """Mirror half of the samples, as a function of (seed, position)."""
    on_bad_sample: OnBadSample
    """Policy for bad samples: "error" raises; "skip" takes the next sample of the same block, logs and counts."""
    max_skipped: int
    """Number of samples skipped in an epoch by this rank, above which "skip" raises, too."""
    channels_last: bool = False
    """Deliver images in torch's channels_last memory format (the shape stays (n, C, H, W)). This saves the tenth of the
    CPU time that sorting colours into planes takes; a GPU does that for nothing."""

    def __post_init__(self) -> None:
        check_sample(self.fields, flip=self.flip)
        if self.on_bad_sample not in ("error", "skip"):
            raise DataError(f"on_bad_sample is {self.on_bad_sample!r}, must be 'error' or 'skip'")

    @property
    def rows(self) -> dict[str, Row]:
        """The arrays that hold one sample, by name."""
        return rows_of(self.fields, channels_last=self.channels_last)

    def views(self) -> Views:
        """Return how the sample of each position is cropped and mirrored."""
        spares = [one.spare for one in self.fields if isinstance(one, Picture)]
        return Views(spares, seed=self.seed, flip=self.flip)


class Loaded(NamedTuple):
    """The result of reading a sample, beside its arrays.

    Attributes:
        skipped: one text per sample that it replaces.
        animated: True if a picture had further frames, which were left out.
    """

    key: str
    skipped: list[str]
    animated: bool = False


class SampleReader:
    """Reads the sample of a position into an array; keeps open files and scratch memory, so use one per thread."""

    def __init__(self, shards: Shards, order: GlobalOrder, options: ReadOptions) -> None:
        self._shards, self._order, self._options, self._views = shards, order, options, options.views()
        self._alone = alone_of_their_class(options.fields)
        self._made_decoders: list[Decoder] = []
        # Labels take no time, so they are read first.
        self._sequence = sorted(range(len(options.fields)), key=lambda n: not isinstance(options.fields[n], Label))
        self._files: collections.OrderedDict[int, tuple[int, float]] = collections.OrderedDict()

    def load(
        self, position: int, out: Mapping[str, np.ndarray], *, heartbeat: Callable[[], None] = lambda: None
    ) -> Loaded:
        """Decode the sample of a position, and return its key.

        Args:
            position: see `GlobalOrder`.
            out: an array for each of `ReadOptions.rows`, C-contiguous; filled.
            heartbeat: a function that is called before each try.

        Raises:
            ShardError: the sample cannot be used, and the policy is "error".
            DataError: the policy is "skip", and more than `max_skipped` samples, or all of a block, cannot be used.
        """
        options = self._options
        view = self._views.at(position)
        skipped: list[str] = []
        stand_ins: Iterator[Place] | None = None
        place: Place | None = self._order.locate(position)
        while place is not None and len(skipped) <= options.max_skipped:
            heartbeat()
            try:
                key, animated = self._load(place, out, view)
                return Loaded(key, skipped, animated)
            except ShardError as error:
                if options.on_bad_sample == "error":
                    raise
                skipped.append(str(error))
            stand_ins = stand_ins or self._order.stand_ins(position)
            place = next(stand_ins, None)
        raise too_many_skipped(len(skipped), options.max_skipped, skipped[-1])

    def close(self) -> None:
        """Close all files."""
        while self._files:
            os.close(self._files.popitem()[1][0])

    def read(
        self, descriptor: int, sample: SampleIndex, name: str, out: Mapping[str, np.ndarray], *, view: View = PLAIN
    ) -> bool:
        """Decode one sample of an open shard into `out`, and return whether there were further frames.

        Args:
            descriptor: the open shard.
            sample: the sample's entry in the index.
            name: name of the shard in errors.
            out: an array for each of `ReadOptions.rows`, C-contiguous; filled.
            view: how it is cropped and mirrored.

        Raises:
            ShardError: the shard is truncated or not the indexed file; or the sample is unsafe, lacks a field, or a
                field is unusable.
            DataError: there is not enough memory for a picture.
        """
        fields = self._options.fields
        for member in sample.members:
            if member.extension not in _PLAIN_EXTENSIONS:
                refuse_unsafe(member.extension, shard=name, key=sample.key)
        found = members_of(sample, fields, alone=self._alone, shard=name)
        members = [found[number] for number in self._sequence]
        payloads = _read_members(descriptor, members, name, sample.key)
        decoders = self._decoders()
        animated = False
        for number, member, payload in zip(self._sequence, members, payloads, strict=True):
            field = fields[number]
            try:
                decoded = decoders[number].decode(payload, out[field.name], view)
            except ValueError as error:
                raise ShardError(name, f".{member.extension} is unusable: {error}", key=sample.key) from None
            except MemoryError:  # no ShardError: a machine without memory must not skip samples that others read
                text = "needs more memory than there is; give the job more, or use fewer workers"
                raise DataError(f"shard {name}, sample {sample.key}: .{member.extension} {text}") from None
            if field.ragged:
                out[field.name + INDEX_SUFFIX][...] = decoded.entries
            animated = animated or decoded.animated
        return animated

    def _decoders(self) -> list[Decoder]:
        """Return the decoders, made after the first shard was opened: before that, the sizes are only claims."""
        if not self._made_decoders:
            options = self._options
            self._made_decoders = [one.decoder(channels_last=options.channels_last) for one in options.fields]
        return self._made_decoders

    def _load(self, place: Place, out: Mapping[str, np.ndarray], view: View) -> tuple[str, bool]:
        descriptor = self._file(place.shard)
        name = self._shards.source.addresses[place.shard]
        try:
            sample = self._shards.index(place.shard)[place.sample]
        except ManifestError as error:
            raise ShardError(name, str(error), key=f"number {place.sample}") from None
        return sample.key, self.read(descriptor, sample, name, out, view=view)

    def _file(self, shard: int) -> int:
        descriptor, touched = self._files.pop(shard, (-1, 0.0))
        now = time.monotonic()
        if descriptor < 0:
            self._close_old_files()
            descriptor, touched = self._shards.open(shard), now
        elif now - touched > _TOUCH_SECONDS:
            self._shards.keep(shard)
            touched = now
        self._files[shard] = (descriptor, touched)
        return descriptor

    def _close_old_files(self) -> None:
        """Close the least recently used files, and those evicted from the cache, which take disk space while open."""
        while len(self._files) >= _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1][0])
        for shard, (descriptor, _) in list(self._files.items()):
            if os.fstat(descriptor).st_nlink == 0:
                os.close(descriptor)
                del self._files[shard]


def too_many_skipped(count: int, limit: int, last: str) -> DataError:
    """Return the error of the policy "skip" when too many samples were skipped."""
    return DataError(
        f"{count} samples skipped in one epoch, the limit is {limit}; `framework data verify` lists them; "
        f"the last: {last}"
    )


_offset = operator.attrgetter("offset")


def _read_members(descriptor: int, members: Sequence[Member], shard: str, key: str) -> list[bytes]:
    """Return the payloads of a sample's members, with one read where they are neighbours; check their headers."""
    ordered = sorted(members, key=_offset) if len(members) > 1 else members
    begin, end = ordered[0].offset - BLOCK_BYTES, ordered[-1].offset + ordered[-1].size
    pairs = itertools.pairwise(ordered)
    if any(after.offset - before.offset - before.size > _JOIN_GAP_BYTES for before, after in pairs):
        return [_read_members(descriptor, [member], shard, key)[0] for member in members]
    if end - begin > MOST_BYTES:
        raise ShardError(shard, f"has members of {end - begin} bytes; at most {MOST_BYTES} are read", key=key)
    try:
        data = os.pread(descriptor, end - begin, begin)
    except OSError as error:
        raise ShardError(shard, f"cannot be read ({error.strerror})", key=key) from None
    if len(data) != end - begin:
        raise ShardError(shard, f"ends at byte {begin + len(data)}, the sample at {end}: truncated", key=key)
    payloads = []
    for member in members:
        start = member.offset - begin
        if not _is_header_of(data[start - BLOCK_BYTES : start], member):
            text = f"no header of {member.name} at byte {member.offset - BLOCK_BYTES}: damaged, or not the indexed file"
            raise ShardError(shard, text, key=key)
        payloads.append(data[start : start + member.size])
    return payloads


def _is_header_of(header: bytes, member: Member) -> bool:
    """Return whether a tar header block holds this member's name and size.

    Long and non-ASCII names, and sizes from 8 GiB on, are stored elsewhere and not checked.
    """
    digits = header[124:136].strip(b"\0 ").lstrip(b"0") or b"0"
    if member.size < _OCTAL_SIZE_END and digits != b"%o" % member.size:
        return False
    name = member.name.encode()
    return len(name) > 100 or not name.isascii() or header[:100].rstrip(b"\0") == name
