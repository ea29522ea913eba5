"""The snapshot of a save: copies of all tensors in CPU memory, made while the trainer waits, written while it goes on.

Memory is kept between saves and filled in the order in which tensors arrive, so that nothing is allocated from the
second save on. Chunks for tensors on a CUDA device are pinned: their copies run at full speed and are waited for once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.checkpoint.durable import JSON, plain
from framework.checkpoint.layout import TensorSlice, check_document, is_ema, tensor_file
from framework.checkpoint.manifest import Manifest, StoredSlice, TensorRecord
from framework.checkpoint.tensorfile import CODES, Stored

_CHUNK_BYTES = 64 << 20  # a power of two: torch rounds pinned allocations up to one
_ALIGNMENT_BYTES = 64


class Staging:
    """CPU memory that is used again by every save; it grows to the largest snapshot of this rank."""

    def __init__(self) -> None:
        self._arenas: dict[bool, list[Tensor]] = {False: [], True: []}  # by whether they are pinned
        self._devices: set[torch.device] = set()
        self.begin()

    def begin(self) -> None:
        """Forget the former snapshot: its memory will be overwritten."""
        self._chunk = {False: 0, True: 0}
        self._used_bytes = {False: 0, True: 0}

    def copy(self, values: Tensor) -> Tensor:
        """Return a contiguous copy of a tensor of shape (n,) in CPU memory, valid once `finish` has been called."""
        pinned = values.is_cuda
        target = self._take(values.nbytes, pinned=pinned).view(values.dtype)
        target.copy_(values.detach(), non_blocking=pinned)
        if pinned:
            self._devices.add(values.device)
        return target

    def finish(self) -> None:
        """Wait for the copies from devices that are under way."""
        for device in self._devices:
            torch.cuda.current_stream(device).synchronize()
        self._devices.clear()

    def _take(self, num_bytes: int, *, pinned: bool) -> Tensor:
        chunks = self._arenas[pinned]
        while True:
            index, used = self._chunk[pinned], self._used_bytes[pinned]
            if index == len(chunks):
                size = max(num_bytes, _CHUNK_BYTES)
                chunks.append(torch.empty(size, dtype=torch.uint8, pin_memory=pinned))
            if used + num_bytes <= chunks[index].numel():
                self._used_bytes[pinned] = used + num_bytes + -num_bytes % _ALIGNMENT_BYTES
                return chunks[index][used : used + num_bytes]
            self._chunk[pinned], self._used_bytes[pinned] = index + 1, 0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything that one rank writes, in memory that the trainer does not touch."""

    tensors: dict[str, list[Stored]]
    """The tensors of each file, by its name."""
    part: Manifest
    """The part of the manifest with this rank's slices; its files are added as they are written."""
    documents: dict[str, JSON]
    """The documents beside the manifest, by file name."""

    @property
    def num_bytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(stored.values.nbytes for tensors in self.tensors.values() for stored in tensors)


def take_snapshot(
    slices: Iterable[TensorSlice],
    *,
    staging: Staging,
    images_seen: int,
    rank: int,
    world: int,
    documents: Mapping[str, JSON],
    record: Mapping[str, JSON],
) -> Snapshot:
    """Copy everything that a save writes, and return the copies.

    The parameters are those of `Writer` and `Writer.save`; the slices' values, shape (n,) each, go into `staging`.

    Raises:
        ValueError: a slice, document or record that cannot be stored.
    """
    # Names and record are checked before anything is copied.
    for name in documents:
        check_document(name)
    part = Manifest(images_seen=images_seen, world=world, record=plain(record, where="record"))
    tensors: dict[str, list[Stored]] = {}
    seen: set[str] = set()
    # Slices come one by one, and each is copied before the next is asked for.
    staging.begin()
    for tensor_slice in slices:
        tensor_slice.check()
        if tensor_slice.values.dtype not in CODES:
            raise ValueError(f"tensor {tensor_slice.key}: checkpoints cannot hold {tensor_slice.values.dtype}")
        if tensor_slice.values.numel() == 0 and not tensor_slice.whole:
            continue  # this rank's slice of a small tensor is empty
        if tensor_slice.stored_key in seen:
            raise ValueError(f"the engine yielded {tensor_slice.stored_key} twice")
        seen.add(tensor_slice.stored_key)
        file = tensor_file(ema=is_ema(tensor_slice.key), rank=rank, world=world)
        shape = tensor_slice.shape if tensor_slice.whole else (tensor_slice.values.numel(),)
        stored = Stored(key=tensor_slice.stored_key, shape=shape, values=staging.copy(tensor_slice.values))
        tensors.setdefault(file, []).append(stored)
        known = part.tensors.setdefault(
            tensor_slice.key, TensorRecord(shape=tensor_slice.shape, dtype=CODES[tensor_slice.values.dtype])
        )
        known.stored_slices.append(StoredSlice(tensor_slice.start, tensor_slice.stop, file, tensor_slice.stored_key))
    staging.finish()
    copied = {name: plain(document, where=name) for name, document in documents.items()}
    return Snapshot(tensors=tensors, part=part, documents=copied)
