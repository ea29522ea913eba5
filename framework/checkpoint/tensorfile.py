"""Safetensors files, written and read in chunks of bounded size.

The format (https://github.com/huggingface/safetensors#format): an 8-byte little-endian header length, a JSON header
{key: {dtype, shape, data_offsets}}, then the tensors without gaps. We write it ourselves to hash the bytes on their way
to the disk, without a second copy of them in memory; and we read intervals with `preadv` straight into the destination,
because a memory map turns a file that was truncated on a network mount into SIGBUS instead of an error. Tests compare
both directions with the `safetensors` library.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from framework.checkpoint.durable import JSON, Digest
from framework.checkpoint.errors import naming
from framework.utils.atomic import replacing
from framework.utils.bounded import element_count, is_count, parse_json

CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
DTYPES = {code: dtype for dtype, code in CODES.items()}
_CHUNK_BYTES = 8 << 20
_MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A tensor ready to be written: flat contiguous values in CPU memory, and the shape to store them under."""

    key: str
    shape: tuple[int, ...]
    values: Tensor
    """The elements, shape (n,)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The place of a tensor in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset_bytes: int
    """Distance of the first byte from the beginning of the file."""

    @property
    def num_bytes(self) -> int:
        """Size of the tensor in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(
    path: Path, tensors: Iterable[Stored], *, metadata: Mapping[str, str], at: Callable[[str], None]
) -> Digest:
    """Write and fsync a safetensors file, and return its size and the hash of the bytes as they were written.

    Args:
        path: the file.
        tensors: its tensors, in any order.
        metadata: texts for the header.
        at: a function that is called with the name of every point at which the file is in another state.

    Raises:
        OSError: the file cannot be written; names it.
    """
    ordered = sorted(tensors, key=lambda stored: (-stored.values.itemsize, stored.key))  # keeps every tensor aligned
    digest, size = hashlib.sha256(), 0
    at(f"create {path.name}")
    with naming(path), open(path, "wb") as file:
        for block in _blocks(ordered, metadata):
            file.write(block)
            digest.update(block)
            size += len(block)
            at(f"write {path.name}")
        file.flush()
        at(f"fsync {path.name}")
        os.fsync(file.fileno())
    return Digest(size, digest.hexdigest())


def save_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write tensors of any shape, device and layout as one safetensors file, whole or not at all.

    The umask decides who may read it; the `safetensors` library's own writer makes files that only the owner may read.

    Raises:
        OSError: the file cannot be written.
    """
    flat = [
        Stored(key=key, shape=tuple(tensor.shape), values=tensor.detach().cpu().contiguous().reshape(-1))
        for key, tensor in tensors.items()
    ]
    with replacing(path) as temporary:
        write_tensors(temporary, flat, metadata=metadata, at=lambda _: None)


def _blocks(tensors: list[Stored], metadata: Mapping[str, str]) -> Iterable[memoryview]:
    header: dict[str, JSON] = {"__metadata__": dict(metadata)}
    offset = 0
    for stored in tensors:
        end = offset + stored.values.nbytes
        header[stored.key] = {
            "dtype": CODES[stored.values.dtype],
            "shape": list(stored.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for stored in tensors:
        raw = _raw(stored.values)
        for begin in range(0, len(raw), _CHUNK_BYTES):
            yield raw[begin : begin + _CHUNK_BYTES]


def read_header(file: BinaryIO) -> tuple[dict[str, Entry], int]:
    """Return the entries by key, and the size in bytes that the file must have; no tensor lies beyond its present end.

    Raises:
        ValueError: the header is not that of a safetensors file that can be read.
        OSError: the file system failed.
    """
    num_bytes = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, num_bytes - 8):
        raise ValueError(f"header length of {length} bytes is impossible in a file of {num_bytes}")
    header = parse_json(file.read(length), source="its header")
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    entries = {key: _entry(key, item, data_begin=8 + length) for key, item in header.items() if key != "__metadata__"}
    # The format has no gaps and no overlaps: tensors on the same bytes would take more memory than the file has.
    end = 8 + length
    for key, entry in sorted(entries.items(), key=lambda pair: (pair[1].offset_bytes, pair[1].num_bytes)):
        if entry.offset_bytes != end:
            raise ValueError(f"tensor {key} begins at byte {entry.offset_bytes} instead of {end}")
        end += entry.num_bytes
    if end > num_bytes:
        raise ValueError(f"its header describes {end} bytes, it has {num_bytes}")
    return entries, end


def _entry(key: str, item: JSON, *, data_begin: int) -> Entry:
    if not isinstance(item, dict):
        raise ValueError(f"malformed header: tensor {key} is no object")
    code, offsets = item.get("dtype"), item.get("data_offsets")
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(f"tensor {key}: dtype {code!r} is not one of {', '.join(DTYPES)}")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(is_count(each) for each in offsets)):
        raise ValueError(f"tensor {key}: data_offsets must be two numbers of bytes")
    dtype = DTYPES[code]
    if offsets[1] - offsets[0] != element_count(item.get("shape"), source=f"tensor {key}") * dtype.itemsize:
        raise ValueError(f"tensor {key}: shape and size disagree")
    return Entry(dtype=dtype, shape=tuple(item["shape"]), offset_bytes=data_begin + offsets[0])


def read_flat(descriptor: int, entry: Entry, start: int, out: Tensor) -> None:
    """Fill `out`, shape (n,), with the elements [start, start + n) of a stored tensor; only these bytes are read.

    `out` may be on any device and have a wider dtype; then the bytes pass through a small buffer.

    Raises:
        EOFError: the file ends early.
        OSError: the file system failed.
    """
    offset = entry.offset_bytes + start * entry.dtype.itemsize
    if out.device.type == "cpu" and out.dtype == entry.dtype and out.is_contiguous():
        _read_bytes(descriptor, offset, _raw(out))
        return
    step = _CHUNK_BYTES // entry.dtype.itemsize
    buffer = torch.empty(min(step, out.numel()), dtype=entry.dtype)
    for begin in range(0, out.numel(), step):
        target = out[begin : begin + step]
        chunk = buffer[: target.numel()]
        _read_bytes(descriptor, offset + begin * entry.dtype.itemsize, _raw(chunk))
        target.copy_(chunk)


def _read_bytes(descriptor: int, offset: int, target: memoryview) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(descriptor, [target[done:]], offset + done)
        if count == 0:
            raise EOFError(f"the file ends at byte {offset + done}")
        done += count


def _raw(values: Tensor) -> memoryview:
    """Return the memory of a contiguous CPU tensor of shape (n,) as bytes, without a copy."""
    return values.detach().view(torch.uint8).numpy().data
