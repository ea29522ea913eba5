"""The manifest: which file holds which interval of which tensor, and which size and hash every file must have.

It carries a sha256 of its own canonical JSON, so a flipped bit in a shape, a clock or a hash is noticed too. The same
shape, limited to one rank's files, is the rank's *part*: rank 0 merges the parts into the manifest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from framework.checkpoint.durable import JSON, Digest, read_json
from framework.checkpoint.errors import CheckpointError
from framework.checkpoint.layout import FORMAT, check_coverage
from framework.checkpoint.tensorfile import DTYPES
from framework.utils.bounded import element_count, is_count


class StoredSlice(NamedTuple):
    """The place at which the elements [start, stop) of a flattened tensor are stored."""

    start: int
    stop: int
    file: str
    stored_key: str


@dataclass(kw_only=True)
class TensorRecord:
    """A tensor and its slices, ordered by start."""

    shape: tuple[int, ...]
    dtype: str
    """Code of the type in safetensors, such as `F32`."""
    stored_slices: list[StoredSlice] = field(default_factory=list)


@dataclass(kw_only=True)
class Manifest:
    """Everything about a checkpoint except the bytes of its tensors."""

    images_seen: int
    """The clock: number of real images seen."""
    world: int
    """Number of ranks that wrote it."""
    files: dict[str, Digest] = field(default_factory=dict)
    """Size and hash of every file, by name."""
    tensors: dict[str, TensorRecord] = field(default_factory=dict)
    """Every tensor, by key."""
    record: JSON = field(default_factory=dict)
    """The small states given to `Writer.save`."""

    def add(self, other: Manifest, *, source: str) -> None:
        """Merge the files and tensors of another rank's part.

        Raises:
            CheckpointError: `source` belongs to a save of other images or world, or disagrees about a tensor.
        """
        if (other.images_seen, other.world) != (self.images_seen, self.world):
            raise CheckpointError(
                f"{source} saved images {other.images_seen} as one of {other.world} ranks; the others save images "
                f"{self.images_seen} as {self.world} ranks: all ranks must save at the same clock"
            )
        self.files |= other.files
        for key, theirs in other.tensors.items():
            ours = self.tensors.setdefault(key, TensorRecord(shape=theirs.shape, dtype=theirs.dtype))
            if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
                raise CheckpointError(
                    f"{source} has {key} as {theirs.dtype} {theirs.shape}, other ranks as {ours.dtype} {ours.shape}"
                )
            ours.stored_slices += theirs.stored_slices

    def check(self) -> None:
        """Order the slices, and refuse a manifest that contradicts itself.

        Raises:
            CheckpointError: the slices do not cover a tensor exactly once, or lie in no listed file or in one that is
                too small.
        """
        for key, tensor in self.tensors.items():
            tensor.stored_slices.sort()
            check_coverage(
                key, tensor.shape, [(stored_slice.start, stored_slice.stop) for stored_slice in tensor.stored_slices]
            )
            if unlisted := {stored_slice.file for stored_slice in tensor.stored_slices} - set(self.files):
                raise CheckpointError(f"tensor {key} lies in {sorted(unlisted)}, which the manifest does not list")
        # Each file must be large enough for what lies in it.
        held: dict[str, int] = dict.fromkeys(self.files, 0)
        for tensor in self.tensors.values():
            for stored_slice in tensor.stored_slices:
                held[stored_slice.file] += (stored_slice.stop - stored_slice.start) * DTYPES[tensor.dtype].itemsize
        for name, num_bytes in held.items():
            if num_bytes > self.files[name].bytes:  # a tensor takes memory before its bytes are read
                raise CheckpointError(f"tensors of {num_bytes} bytes cannot lie in {name}, which has fewer")

    def index(self, prefix: str) -> JSON:
        """Return what Hugging Face calls an index: which of the files that begin with `prefix` holds a stored key.

        The form is that of https://huggingface.co/docs/hub/safetensors, "sharded": `weight_map`, and the bytes of all
        tensors.
        """
        stored_slices = [
            (stored_slice, DTYPES[tensor.dtype].itemsize)
            for tensor in self.tensors.values()
            for stored_slice in tensor.stored_slices
            if stored_slice.file.startswith(prefix)
        ]
        return {
            "metadata": {
                "total_size": sum(
                    (stored_slice.stop - stored_slice.start) * size for stored_slice, size in stored_slices
                )
            },
            "weight_map": dict(
                sorted((stored_slice.stored_key, stored_slice.file) for stored_slice, _ in stored_slices)
            ),
        }

    def to_json(self) -> JSON:
        """Return the content of `manifest.json`."""
        body = {
            "format": FORMAT,
            "images": self.images_seen,
            "world": self.world,
            "record": self.record,
            "files": {name: digest._asdict() for name, digest in sorted(self.files.items())},
            "tensors": {
                key: {
                    "shape": list(tensor.shape),
                    "dtype": tensor.dtype,
                    "pieces": [list(s) for s in tensor.stored_slices],
                }
                for key, tensor in sorted(self.tensors.items())
            },
        }
        return body | {"sha256": _digest(body)}


def parse_manifest(content: JSON) -> Manifest:
    """Return the manifest or part in parsed JSON; `Manifest.check` tells whether it covers its tensors.

    Raises:
        CheckpointError: it is damaged, or of a format that this version does not know.
    """
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError("it is not a checkpoint's manifest: the field `format` is missing")
    # The format and the hash come before the fields, whose meaning depends on them.
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"format {content['format']!r} is unknown, this version reads format {FORMAT}: upgrade the framework"
        )
    body = {key: value for key, value in content.items() if key != "sha256"}
    if content.get("sha256") != _digest(body):
        raise CheckpointError("its content does not match its own sha256: it is damaged or was edited")
    try:
        return Manifest(
            images_seen=_count(body["images"]),
            world=_count(body["world"]),
            files={_file_name(name): _read_digest(digest) for name, digest in _object(body["files"]).items()},
            tensors={key: _tensor(key, tensor) for key, tensor in _object(body["tensors"]).items()},
            record=body["record"],
        )
    except KeyError as error:
        raise CheckpointError(f"malformed content: the field {error} is missing") from error
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"malformed content: {error}") from error


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        CheckpointError: it is missing, unreadable, damaged or unknown; names the file.
    """
    content = read_json(path)
    try:
        manifest = parse_manifest(content)
        manifest.check()
        return manifest
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _digest(body: JSON) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _count(value: JSON) -> int:
    if not is_count(value):
        raise ValueError(f"{value!r} is not a count")
    return value


def _text(value: JSON) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _object(value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not an object")
    return value


def _read_digest(value: JSON) -> Digest:
    fields = _object(value)
    if fields.keys() != {"bytes", "sha256"}:
        raise ValueError(f"a file has the fields {sorted(fields)} instead of bytes and sha256")
    return Digest(_count(fields["bytes"]), _text(fields["sha256"]))


def _tensor(key: str, value: JSON) -> TensorRecord:
    fields = _object(value)
    element_count(fields["shape"], source=f"tensor {key}", error=CheckpointError)
    slices = fields["pieces"]
    if not isinstance(slices, list) or not all(
        isinstance(tensor_slice, list) and len(tensor_slice) == 4 for tensor_slice in slices
    ):
        raise ValueError(f"the slices of tensor {key} are not lists of start, stop, file and stored key")
    stored_slices = [
        StoredSlice(_count(start), _count(stop), _text(file), _text(stored)) for start, stop, file, stored in slices
    ]
    if any(stored_slice.stop < stored_slice.start for stored_slice in stored_slices):
        raise ValueError(f"a slice of tensor {key} ends before it begins")
    return TensorRecord(shape=tuple(fields["shape"]), dtype=_known_dtype(fields["dtype"]), stored_slices=stored_slices)


def _known_dtype(code: JSON) -> str:
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(f"dtype {code!r} is not one of {', '.join(DTYPES)}")
    return code


def _file_name(name: str) -> str:
    """Return a name that stays in the manifest's folder, and refuse any other."""
    if not name or name != Path(name).name or name.startswith(".") or not name.isprintable() or len(name) > 255:
        raise ValueError(f"{name!a} is not a plain file name")
    return name
