"""The fields of a sample together: whether they fit, which files they are, and the arrays of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from framework.data.errors import DataError, ShardError
from framework.data.fields import INDEX_SUFFIX, Field, Image, Label, LabelMap, Mask, Picture, Row
from framework.data.index import Member, SampleIndex
from framework.data.points import Points, Vector
from framework.utils.pictures import MOST_BYTES

_OWN = (Image, Mask, LabelMap, Label, Vector, Points)


def at_resolution(fields: tuple[Field, ...], resolution: int) -> tuple[Field, ...]:
    """Return the fields with their only picture at another side in pixels, for a phase of progressive growing.

    Raises:
        DataError: there is another number of pictures, or they are cropped.
    """
    pictures = [one for one in fields if isinstance(one, Picture)]
    if len(pictures) != 1 or pictures[0].stored is not None:
        raise DataError(f"growth: needs one picture a sample, without `stored`; there are {len(pictures)}")
    return tuple(dataclasses.replace(one, size=resolution) if isinstance(one, Picture) else one for one in fields)


def check_sample(fields: Sequence[Field], *, flip: bool) -> None:
    """Refuse fields that no sample can have together.

    Raises:
        DataError: none, two of one name, pictures that are cropped to different parts, or a field that cannot be
            mirrored or cropped where samples are.
    """
    names = [one.name for one in fields] + [one.name + INDEX_SUFFIX for one in fields if one.ragged]
    if not fields or len(set(names)) < len(names):
        raise DataError(f"fields {', '.join(names) or '()'}: a sample has one or more fields, each with its own name")
    pictures = [one for one in fields if isinstance(one, Picture)]
    for one in pictures[1:]:
        first = pictures[0]
        same = (one.spare[0] * first.height, one.spare[1] * first.width) == (
            first.spare[0] * one.height,
            first.spare[1] * one.width,
        )
        if not same:
            raise DataError(
                f"fields {first.name!r} and {one.name!r} are cropped to different parts of a picture; "
                f"give both a size and a stored size of one ratio"
            )
    cropped = any(any(one.spare) for one in pictures)
    if (flip or cropped) and (fixed := [one.name for one in fields if not one.can_be_mirrored]):
        raise DataError(f"field {fixed[0]!r} cannot be mirrored or cropped; set flip=False, and no stored size")


def stored_side(fields: Sequence[Field]) -> int | None:
    """Return the side of the first picture in the shards, in pixels; None where it is no square or there is none."""
    sizes = [one.stored_size for one in fields if isinstance(one, Picture)]
    return sizes[0][0] if sizes and sizes[0][0] == sizes[0][1] else None


def describe_fields(fields: Sequence[Field]) -> dict[str, Any]:
    """Return resolution, channels and classes of the usual sample, and a line per field of any other one."""
    image = next((one for one in fields if isinstance(one, Image)), None)
    label = next((one for one in fields if isinstance(one, Label)), None)
    told: dict[str, Any] = {
        "resolution": (image.height if image.height == image.width else [image.height, image.width]) if image else 0,
        "channels": image.channels if image else 0,
        "classes": label.classes if label else 0,
    }
    usual = all(one is image or one is label for one in fields) and image is not None and image.stored is None
    return told if usual else told | {"fields": [f"{type(one).__name__} {_options(one)}" for one in fields]}


def _options(one: Field) -> str:
    return ", ".join(f"{name}={value}" for name, value in vars(one).items() if value is not None)


def rows_of(fields: Sequence[Field], *, channels_last: bool) -> dict[str, Row]:
    """Return the arrays that hold one sample, by name; a ragged field has another one for its number of entries."""
    rows = {one.name: one.row(channels_last=channels_last) for one in fields}
    return rows | {one.name + INDEX_SUFFIX: Row((), "int64") for one in fields if one.ragged}


def alone_of_their_class(fields: Sequence[Field]) -> frozenset[str]:
    """Return the names of the fields whose files need no name: `<key>.<extension>`."""
    return frozenset(
        one.name for one in fields if one.stands_alone and sum(type(other) is type(one) for other in fields) == 1
    )


def members_of(sample: SampleIndex, fields: Sequence[Field], *, alone: frozenset[str], shard: object) -> list[Member]:
    """Return the file of each field in a sample; `alone` is what `alone_of_their_class` says.

    Raises:
        ShardError: a field has none, or one that is too large; names shard, sample and field.
    """
    members = []
    named = any("." in member.extension for member in sample.members)  # commonly there are none to look for
    for one in fields:
        member = one.find(sample, f"{one.name}.") if named else None
        if member is None and one.name in alone:
            member = one.find(sample, "")
        if member is None:
            raise ShardError(shard, _missing(sample, one, alone=one.name in alone), key=sample.key)
        if one.most_bytes < member.size <= MOST_BYTES:  # what is larger is refused when it is read
            text = f".{member.extension} has {member.size} bytes; at most {one.most_bytes} are read"
            raise ShardError(shard, text, key=sample.key)
        members.append(member)
    return members


def _missing(sample: SampleIndex, one: Field, *, alone: bool) -> str:
    """Return what an error says of a sample without a field."""
    if alone and isinstance(one, Image) and one.name == "image":
        return sample.no_picture()
    if alone and isinstance(one, Label) and one.name == "label":
        return "has no label (.cls)"
    found = ", ".join(member.extension for member in sample.members)
    return f"has no field {one.name!r} (.{one.name}.{one.extensions[0]} or the like), only {found}"


def to_json(fields: Sequence[Field]) -> list[dict[str, Any]] | None:
    """Return the fields for `from_json` in a loading worker's process; None if one is of a class of the user's own."""
    if not all(type(one) in _OWN for one in fields):
        return None
    return [{"class": type(one).__name__, **vars(one)} for one in fields]


def from_json(described: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    """Return the fields that `to_json` described."""
    classes = {cls.__name__: cls for cls in _OWN}

    def value(held: Any) -> Any:
        return tuple(held) if isinstance(held, list) else held

    plain = [{name: value(held) for name, held in one.items()} for one in described]
    return tuple(classes[one.pop("class")](**one) for one in plain)
