"""Decides, before the first sample is written, on the samples of a data set, their order, labels and form."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from framework.data.packing.images import Target, open_upright
from framework.data.packing.options import PackOptions
from framework.data.readers import BadImageError, Source, SourceError
from framework.data.readers.base import Labels

_ENCODING_OF_SUFFIX: dict[str, Literal["png", "webp", "jpg"]] = {
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".jpe": "jpg",
    ".jfif": "jpg",
    ".webp": "webp",
}


VECTOR = "point"
"""The name of the field of vectors, unless another one is given."""
_OF_PICTURES = (
    *("resolution", "channels", "encoding", "crop", "resize_filter", "pyramid_filter", "pad"),
    *("folders", "aligned", "masks", "label_maps", "skip_bad"),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The order of the pictures and the form they get.

    Attributes:
        order: indexes into the source, int64 (M,), in the order of writing.
        labels: class numbers of the whole source, int64 (N,), or None.
        class_names: one per class, empty without labels.
        targets: the form of each picture of a sample.
        request: hash of source content and options; the same request gives the same data set.
    """

    order: npt.NDArray[np.int64]
    labels: Labels | None
    class_names: tuple[str, ...]
    targets: tuple[Target, ...]
    request: str

    @property
    def target(self) -> Target:
        """The form of the first picture; several resolutions are those of all."""
        return self.targets[0]

    @property
    def classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.class_names)


def make_plan(source: Source, options: PackOptions, *, notice: str) -> Plan:
    """Decide on order, classes and form, and return the plan.

    Raises:
        SourceError: labels and classes do not fit, a class has too few pictures, no picture can be decoded, or the
            first one is not square and no side is given.
    """
    class_names = _class_names(source, options)
    request = {"source": source.digest, "kind": source.kind, "options": options.request(), "notice": notice}
    return Plan(
        order=_order(source, options, class_names),
        labels=source.labels,
        class_names=class_names,
        targets=_targets(source, options),
        request=hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest(),
    )


def _class_names(source: Source, options: PackOptions) -> tuple[str, ...]:
    """Return the names of the classes, checked against the labels: each number has a name, each name a picture."""
    where = f"{source.kind} {source.name!r}"
    if source.labels is None:
        if options.class_names or options.per_class:
            raise SourceError(f"{where}: has no labels, but class names or a number per class are asked for")
        return ()
    found = int(source.labels.max()) + 1
    names = options.class_names or source.class_names
    if options.class_names and source.class_names and len(options.class_names) != len(source.class_names):
        raise SourceError(f"{where}: {len(options.class_names)} class names for {len(source.class_names)} classes")
    if names and found > len(names):
        picture = source.names[int(source.labels.argmax())]
        raise SourceError(f"{where}: {picture} has label {found - 1}, but there are only {len(names)} classes")
    need = options.per_class or 1
    counts = np.bincount(source.labels, minlength=len(names))
    if len(short := np.flatnonzero(counts < need)):
        label = int(short[0])
        name = names[label] if names else str(label)
        raise SourceError(f"{where}: class {name!r} has {counts[label]} pictures, needed: {need}")
    return names or tuple(str(number) for number in range(found))  # no more classes than pictures, since each has one


def _order(source: Source, options: PackOptions, class_names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    chosen = np.arange(len(source), dtype=np.int64)
    if options.per_class is not None and source.labels is not None:
        by_class = np.argsort(source.labels, kind="stable")
        starts = np.searchsorted(source.labels[by_class], np.arange(len(class_names)))
        rank_in_class = np.arange(len(source)) - starts[source.labels[by_class]]
        chosen = np.sort(by_class[rank_in_class < options.per_class]).astype(np.int64)
    if options.seed is None:
        return chosen
    # Sorting by raw generator output, because NumPy promises this stream for ever, but not that of `permutation`.
    keys = np.random.Philox(key=options.seed).random_raw(len(chosen))
    return chosen[np.argsort(keys, kind="stable")]


def _targets(source: Source, options: PackOptions) -> tuple[Target, ...]:
    """Return the form of each picture of a sample, or of its vector."""
    if source.dims:
        return (_vector(source, options),)
    return tuple(_target(source, options, part) for part in range(max(1, len(options.fields))))


def _vector(source: Source, options: PackOptions) -> Target:
    """Return the form of vectors, which are written as they are.

    Raises:
        SourceError: an option of pictures is given, or several fields.
    """
    usual = PackOptions()
    for name in _OF_PICTURES:
        if getattr(options, name) != getattr(usual, name):
            flag = name.replace("_", "-")
            raise SourceError(f"{source.kind} {source.name!r}: holds numbers, --{flag} is for pictures; leave it out")
    if len(options.fields) > 1:
        raise SourceError(f"{source.kind} {source.name!r}: has one field, --fields names {len(options.fields)}")
    return Target(
        sides=(0,),
        resize=False,
        channels=1,
        grey_only=False,
        encoding="f32",
        crop="none",
        resize_filter="nearest",
        pyramid_filter="nearest",
        pad=None,
        field=options.fields[0] if options.fields else VECTOR,
        kind="vector",
        shape=(1, source.dims),
    )


def _target(source: Source, options: PackOptions, part: int) -> Target:
    """Return the form of one of the pictures of a sample, by number."""
    size, grey = _first_picture(source, part)
    sides = options.resolution or ((options.pad,) if options.pad else None)
    shape = None if sides or size[0] == size[1] or not options.fields else size[::-1]
    if sides is None and size[0] != size[1] and shape is None:
        raise SourceError(f"{source.names[0]}: is {size[0]}x{size[1]}, not square: give a resolution")
    field = options.fields[part] if options.fields else ""
    kind = options.kind(field)
    channels = options.channels or source.channels or (1 if grey else 3)
    if kind != "image":
        return Target(
            sides=sides or (max(size),),
            resize=options.resolution is not None,
            channels=1,
            grey_only=False,
            encoding="png",
            crop=options.crop,
            resize_filter="nearest",
            pyramid_filter="nearest",
            pad=options.pad,
            field=field,
            kind=kind,
            shape=shape,
        )
    return Target(
        sides=sides or (max(size),),
        resize=options.resolution is not None,
        channels=channels,
        grey_only=options.channels is None and channels == 1,
        encoding=_common_encoding(source) if options.encoding == "keep" else options.encoding,
        crop=options.crop,
        resize_filter=options.resize_filter,
        pyramid_filter=options.pyramid_filter,
        pad=options.pad,
        field=field,
        shape=shape,
    )


def _first_picture(source: Source, part: int) -> tuple[tuple[int, int], bool]:
    """Return (width, height) of the first picture that can be decoded, and whether it is grey; others must fit it."""
    reasons = []
    for index in range(len(source)):
        try:
            image = open_upright(source.parts(index)[part]).image
            return image.size, image.mode == "L"
        except BadImageError as error:
            reasons.append(f"{source.names[index]}: {error}")
    raise SourceError(f"{source.kind} {source.name!r}: none of {len(source)} pictures can be decoded; {reasons[0]}")


def _common_encoding(source: Source) -> Literal["png", "webp", "jpg"]:
    suffixes = (PurePosixPath(name).suffix.lower() for name in source.names)
    counts = Counter(_ENCODING_OF_SUFFIX.get(suffix, "png") for suffix in suffixes)
    return min(counts, key=lambda encoding: (-counts[encoding], encoding))
