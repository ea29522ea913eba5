"""The manifest of a packed data set, `manifest.json`, beside its shards in one folder.

    <split>-000000.tar  <split>-000000.idx  ...  manifest.json

The manifest holds counts, sizes and SHA-256 per shard, so that damage is found. A folder with several
resolutions of the same pictures has a parent manifest naming one sub-folder per resolution. The `.idx` files beside the
shards are described in `framework.data.index`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from framework.data.errors import ManifestError
from framework.data.index import write_atomically
from framework.data.labels import MAX_CLASSES
from framework.utils.bounded import is_count, parse_json, read_file
from framework.utils.pictures import most_pixels

FORMAT = 1
MANIFEST_NAME = "manifest.json"
MOST_MANIFEST_BYTES = 32 << 20
"""Size of the largest manifest: that of 150,000 shards."""
_MOST_NAME_BYTES, _MOST_FOLDER_CHARACTERS = 200, 50  # file systems end a name at 255 bytes, and ours get suffixes
_MOST_SIDE_DIGITS = 5
_MOST_FIELDS = 100
_FLOAT_BYTES = 4
_SMALLEST_SAMPLE_BYTES = 512  # the header of an empty picture in a tar
ENCODINGS = ("png", "webp", "jpg", "f32", "mixed")
"""The kinds of files; "mixed" is for shards made by others with several kinds, or another one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard: file name without folder, number of samples, size in bytes, SHA-256 of the whole file in hex."""

    name: str
    count: int
    bytes: int
    sha256: str


_VECTOR = "vector"
KINDS = ("image", "mask", "label map", _VECTOR)
"""The kinds of fields that a manifest names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldEntry:
    """One of several pictures of a sample: its name and kind, height and width in pixels, and channels.

    Of a vector, `width` is how many numbers it has, and height and channels are 1.
    """

    name: str
    kind: str
    height: int
    width: int
    channels: int

    @property
    def is_vector(self) -> bool:
        """Whether it is no picture, but a vector."""
        return self.kind == _VECTOR

    @property
    def form(self) -> str:
        """What it looks like, such as `photo 64x64x3` or `point (2 numbers)`."""
        size = f"({self.width} numbers)" if self.is_vector else f"{self.width}x{self.height}x{self.channels}"
        return f"{self.name} {size}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """A data set of pictures, or vectors, in shards; validated on construction.

    Attributes:
        resolution: side of the pictures in pixels; the longer side of the first field where they have several fields; 0
            where samples are vectors.
        channels: 1 (grey) or 3 (RGB); of the first field where there are several; 1 where samples are vectors.
        classes: number of classes, 0 for a set without labels.
        class_names: one name per class, or empty.
        label_counts: samples per class, or empty.
        encoding: "png", "webp", "jpg", "f32" of vectors, or "mixed" for shards made by others: several kinds, or
            another one.
        source: origin of the pictures: at least "kind" and "name", and "license" where it is known.
        fields: the pictures or vectors of each sample, in files `<key>.<field>.<extension>`; empty where there is one
            picture, in `<key>.<extension>`.

    Raises:
        ManifestError: a field contradicts another one or cannot be right.
    """

    name: str
    split: str
    resolution: int
    channels: int
    shards: tuple[ShardEntry, ...]
    classes: int = 0
    class_names: tuple[str, ...] = ()
    label_counts: tuple[int, ...] = ()
    encoding: str = "png"
    resize_filter: str = "none"
    crop: str = "none"
    seed: int = 0
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fields: tuple[FieldEntry, ...] = ()

    def __post_init__(self) -> None:
        validate(self)

    @property
    def count(self) -> int:
        """Number of samples in all shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Hash of (name, count, sha256) of the shards: the identity of the data."""
        return fingerprint(self.shards)

    def to_json(self) -> dict[str, Any]:
        """Return the dictionary that is written to `manifest.json`."""
        fields = dataclasses.asdict(self) | {"source": dict(self.source)}
        head = {"format": FORMAT, "name": self.name, "split": self.split, "count": self.count}
        shards, pictures = fields.pop("shards"), fields.pop("fields")
        several = {"fields": list(pictures)} if pictures else {}
        return {**head, **fields, **several, "shards": list(shards), "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, data: dict[str, Any], *, origin: object) -> Manifest:
        """Return the manifest in the dictionary of a `manifest.json`; `origin` names it in errors.

        Raises:
            ManifestError: it names several resolutions; or a field is missing, of a wrong type, or contradicts another.
        """
        if (table := _resolutions(data, origin)) is not None:
            folders = ", ".join(sorted(table.values()))
            raise ManifestError(f"{origin}: names several resolutions; open one of its folders: {folders}")

        # Types first: a missing field has none of them.
        def field(where: dict[str, Any], name: str, kind: type) -> Any:
            value = where.get(name)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise ManifestError(f"{origin}: field {name!r} must be of type {kind.__name__}, is {value!r:.60}")
            return value

        def items(name: str, kind: type) -> tuple[Any, ...]:
            return tuple(field({name: value}, name, kind) for value in field(data, name, list))

        def entry(row: dict[str, Any]) -> ShardEntry:
            numbers = {name: field(row, name, int) for name in ("count", "bytes")}
            return ShardEntry(name=field(row, "name", str), sha256=field(row, "sha256", str), **numbers)

        def picture(row: dict[str, Any]) -> FieldEntry:
            numbers = {name: field(row, name, int) for name in ("height", "width", "channels")}
            return FieldEntry(name=field(row, "name", str), kind=field(row, "kind", str), **numbers)

        fields: dict[str, Any] = {
            "shards": tuple(entry(row) for row in items("shards", dict)),
            "class_names": items("class_names", str),
            "label_counts": items("label_counts", int),
            "source": field(data, "source", dict),
            "fields": tuple(picture(row) for row in items("fields", dict)) if "fields" in data else (),
        }
        fields |= {name: field(data, name, str) for name in ("name", "split", "encoding", "resize_filter", "crop")}
        fields |= {name: field(data, name, int) for name in ("resolution", "channels", "classes", "seed")}
        # Then what the fields say together.
        try:
            manifest = cls(**fields)
        except ManifestError as error:
            raise ManifestError(f"{origin}: {error}") from None
        for name in ("count", "fingerprint"):
            said, found = data.get(name), getattr(manifest, name)
            if said != found:
                raise ManifestError(f"{origin}: {name} says {said!r:.80}, the shards listed there give {found!r:.80}")
        return manifest


def fingerprint(shards: Iterable[ShardEntry]) -> str:
    """Return the SHA-256 in hex of the JSON text `[[name, count, sha256], ...]`, without spaces."""
    rows = [[shard.name, shard.count, shard.sha256] for shard in shards]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hex.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def index_name(shard_name: str) -> str:
    """Return the name of a shard's index: `train-000000.idx` for `train-000000.tar`."""
    return shard_name.removesuffix(".tar") + ".idx"


def validate(manifest: Manifest) -> None:
    """Refuse a manifest that contradicts itself.

    Raises:
        ManifestError: names data set, field and shard.
    """
    m = manifest

    def refuse(wrong: bool, text: str) -> None:
        if wrong:
            raise ManifestError(f"manifest of data set {m.name!r}: {text}")

    # Fields by themselves.
    only_vectors = bool(m.fields) and all(entry.is_vector for entry in m.fields)
    fits = m.resolution == 0 if only_vectors else m.resolution > 0
    refuse(not fits, f"resolution is {m.resolution}, must be {'0 of vectors' if only_vectors else 'positive'}")
    refuse(m.channels not in (1, 3), f"channels is {m.channels}, must be 1 or 3")
    refuse(not 0 <= m.classes <= MAX_CLASSES, f"classes is {m.classes}, must be in 0 .. {MAX_CLASSES}")
    refuse(len(m.class_names) not in (0, m.classes), f"class_names has {len(m.class_names)} of {m.classes} names")
    refuse(len(m.label_counts) not in (0, m.classes), f"label_counts has {len(m.label_counts)} of {m.classes} values")
    refuse(m.encoding not in ENCODINGS, f"encoding is {m.encoding!r}, must be one of {', '.join(ENCODINGS)}")
    refuse(not m.shards, "has no shards")
    # Shards: their names become paths, and their counts and sizes bound what is allocated.
    names: set[str] = set()
    for shard in m.shards:
        plain = shard.name not in ("", ".", "..") and not re.search(r"[/\\\0]", shard.name)
        long = len(shard.name.encode("utf-8", "surrogatepass")) > _MOST_NAME_BYTES
        refuse(not plain or long, f"shard name {shard.name!r:.80} is not a plain file name")
        refuse(shard.name in names, f"shard {shard.name} is listed twice")
        names.add(shard.name)
        refuse(shard.count < 1 or shard.bytes < 1, f"shard {shard.name} is empty")
        too_many = not is_count(shard.bytes) or shard.count * _SMALLEST_SAMPLE_BYTES > shard.bytes
        refuse(too_many, f"shard {shard.name}: {shard.bytes} bytes cannot hold {shard.count} samples")
        refuse(not re.fullmatch(r"[0-9a-f]{64}", shard.sha256), f"shard {shard.name}: sha256 is not 64 hex digits")
    # Fields against the shards.
    area = m.fields[0].height * m.fields[0].width if m.fields else m.resolution**2
    side_fits = area <= most_pixels(max(shard.bytes for shard in m.shards))
    refuse(not side_fits, f"resolution is {m.resolution}, more than its shards can hold")
    _check_fields(m, refuse)
    refuse(not is_count(m.count), f"{m.count} samples are more than can be numbered")
    refuse(not all(map(is_count, m.label_counts)), "label_counts must not be negative")
    labelled = sum(m.label_counts)
    refuse(bool(m.label_counts) and labelled != m.count, f"label_counts sum to {labelled}, the shards to {m.count}")


def _check_fields(m: Manifest, refuse: Callable[[bool, str], None]) -> None:
    """Refuse fields that no sample can have, or sizes that the shards cannot hold."""
    names = [entry.name for entry in m.fields]
    refuse(len(names) > _MOST_FIELDS, f"names {len(names)} fields, at most {_MOST_FIELDS} are read")
    refuse(len(set(names)) < len(names), "names a field twice")
    for entry in m.fields:
        where = f"field {entry.name!r:.60}"
        refuse(not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", entry.name), f"{where}: is no lower-case identifier")
        refuse(entry.kind not in KINDS, f"{where}: kind is {entry.kind!r:.60}, must be one of {', '.join(KINDS)}")
        refuse(entry.channels not in (1, 3, 4), f"{where}: channels is {entry.channels}, must be 1, 3 or 4")
        refuse(min(entry.height, entry.width) < 1, f"{where}: is {entry.width}x{entry.height} pixels")
        refuse(entry.is_vector and entry.height * entry.channels > 1, f"{where}: is a vector of several rows")
        largest = max(shard.bytes for shard in m.shards)
        most = largest // _FLOAT_BYTES if entry.is_vector else most_pixels(largest)
        refuse(entry.height * entry.width > most, f"{where}: has more pixels or numbers than the shards can hold")


def parse_manifest(text: str | bytes, *, origin: object) -> Manifest:
    """Return the manifest in the text of a `manifest.json`.

    Args:
        text: JSON text.
        origin: file or address, for error messages.

    Raises:
        ManifestError: it is no JSON, or see `Manifest.from_json`.
    """
    return Manifest.from_json(_load_object(text, origin), origin=origin)


def parse_resolutions(text: str | bytes, *, origin: object) -> dict[int, str] | None:
    """Return resolution -> sub-folder of a parent manifest; None if the text is an ordinary manifest.

    Raises:
        ManifestError: it is no JSON, or no table of resolutions.
    """
    return _resolutions(_load_object(text, origin), origin)


def _resolutions(data: dict[str, Any], origin: object) -> dict[int, str] | None:
    if "resolutions" not in data:
        return None
    table = data["resolutions"]
    ok = isinstance(table, dict) and table and all(isinstance(folder, str) for folder in table.values())
    sides = ok and all(re.fullmatch(rf"[1-9][0-9]{{0,{_MOST_SIDE_DIGITS - 1}}}", side) for side in table)
    if not sides or any(
        not re.fullmatch(rf"[\w-]{{1,{_MOST_FOLDER_CHARACTERS}}}", folder) for folder in table.values()
    ):
        raise ManifestError(f"{origin}: 'resolutions' must map a side in pixels to the name of a sub-folder")
    return {int(side): folder for side, folder in sorted(table.items(), key=lambda item: int(item[0]))}


def _load_object(text: str | bytes, origin: object) -> dict[str, Any]:
    data = parse_json(text, source=origin, error=ManifestError)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        said = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise ManifestError(f"{origin}: this is not a data manifest of format {FORMAT} (found {said!r:.60})")
    return data


def read_manifest_file(path: Path) -> bytes:
    """Return the bytes of a `manifest.json`.

    Raises:
        ManifestError: it is not there, is no regular file, or has more than `MOST_MANIFEST_BYTES`.
    """
    try:
        return read_file(path, most_bytes=MOST_MANIFEST_BYTES, error=ManifestError)
    except OSError as error:
        hint = "pack the pictures with `framework pack`, or index existing shards with `framework data index`"
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); {hint}") from None


def load_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Return the manifest of a folder.

    Raises:
        ManifestError: see `read_manifest_file` and `parse_manifest`.
    """
    path = Path(folder) / MANIFEST_NAME
    return parse_manifest(read_manifest_file(path), origin=path)


def load_resolutions(folder: str | os.PathLike[str]) -> dict[int, str] | None:
    """Return resolution -> sub-folder of a folder's parent manifest; None for a single data set.

    Raises:
        ManifestError: see `read_manifest_file` and `parse_resolutions`.
    """
    path = Path(folder) / MANIFEST_NAME
    return parse_resolutions(read_manifest_file(path), origin=path)


def save_manifest(manifest: Manifest, folder: str | os.PathLike[str]) -> Path:
    """Write `manifest.json` atomically, and return its path."""
    return write_atomically(Path(folder) / MANIFEST_NAME, json.dumps(manifest.to_json(), indent=1) + "\n")


def save_resolutions(resolutions: Mapping[int, str], folder: str | os.PathLike[str]) -> Path:
    """Write the parent manifest of a folder with several resolutions atomically, and return its path."""
    table = {str(side): resolutions[side] for side in sorted(resolutions)}
    text = json.dumps({"format": FORMAT, "resolutions": table}, indent=1) + "\n"
    return write_atomically(Path(folder) / MANIFEST_NAME, text)
