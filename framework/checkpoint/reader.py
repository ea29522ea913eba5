"""Reads any interval of any tensor of a checkpoint, however the tensor was cut when it was written.

Only the bytes asked for are read, and sizes are checked before memory is taken. Nothing is unpickled. No error from
inside a library reaches the caller: a file that is missing, truncated or damaged is a `CheckpointError` that names it.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch
from torch import Tensor

from framework.checkpoint.durable import JSON, read_json
from framework.checkpoint.errors import CheckpointError, explain
from framework.checkpoint.layout import MANIFEST, TensorSlice, checkpoint_folders, index_files, is_ema, parse_complete
from framework.checkpoint.manifest import Manifest, StoredSlice, TensorRecord, load_manifest
from framework.checkpoint.tensorfile import DTYPES, Entry, read_flat, read_header
from framework.utils.aliases import todays
from framework.utils.bounded import open_regular

Level = Literal["size", "hash"]
"""The property of a file that is compared with the manifest: its size, or all its bytes."""


class Checkpoint:
    """A complete checkpoint on disk, opened by `Checkpoint.open`; also a context manager, which closes its files.

    Files are opened when first read and stay open, so a checkpoint that is deleted meanwhile remains readable where the
    file system allows it.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self._manifest = manifest
        self._open: dict[str, tuple[int, dict[str, Entry]]] = {}
        self._finalizer = weakref.finalize(self, _close_all, self._open)

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read and check the manifest, and return the checkpoint; tensors are read when they are asked for.

        Raises:
            CheckpointError: there is no complete checkpoint in `path`, or its manifest is damaged or unknown.
        """
        path = Path(path)
        named = parse_complete(path.name)
        if named is not None and not path.exists():  # the job may have been killed while replacing it
            path = checkpoint_folders(path.parent).get(named, path)
        if not path.is_dir():
            raise CheckpointError(f"{path} is not a checkpoint: no such folder")
        if not (path / MANIFEST).exists():
            raise CheckpointError(f"{path} is not a complete checkpoint: {MANIFEST} is missing; use another one")
        manifest = load_manifest(path / MANIFEST)
        if named is not None and named != manifest.images_seen:
            raise CheckpointError(f"{path} holds the checkpoint of {manifest.images_seen} images: rename the folder so")
        return cls(path, manifest)

    @property
    def images_seen(self) -> int:
        """The clock: number of real images seen."""
        return self._manifest.images_seen

    @property
    def world(self) -> int:
        """Number of ranks that wrote it."""
        return self._manifest.world

    @property
    def record(self) -> JSON:
        """The small states given to `Writer.save`."""
        return self._manifest.record

    @property
    def num_bytes(self) -> int:
        """Bytes of all files that the manifest lists."""
        return sum(digest.bytes for digest in self._manifest.files.values())

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that the manifest lists."""
        return tuple(self._manifest.files)

    @property
    def ema_files(self) -> tuple[str, ...]:
        """Names of the files that sampling needs: averaged weights and buffers, and the documents."""
        ema = {
            stored_slice.file
            for key, tensor in self._manifest.tensors.items()
            if is_ema(key)
            for stored_slice in tensor.stored_slices
        }
        other = {name for name, prefix in index_files().items() if not any(file.startswith(prefix) for file in ema)}
        return tuple(n for n in self._manifest.files if n in ema or (n.endswith(".json") and n not in other))

    def document(self, name: str) -> JSON:
        """Return a document saved beside the manifest, checked against its hash and translated into today's names.

        Raises:
            CheckpointError: there is no such document, or it is damaged or no JSON object.
        """
        if name not in self._manifest.files or not name.endswith(".json"):
            documents = (file for file in self._manifest.files if file.endswith(".json") and file not in index_files())
            there = ", ".join(documents) or "none"
            raise CheckpointError(f"{self.path} has no document {name!r}; it has: {there}")
        self.verify("hash", files=[name])
        content = read_json(self.path / name)
        if not isinstance(content, dict):
            raise CheckpointError(f"{self.path / name} is damaged: it must hold a JSON object")
        return todays(content)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of the tensors that begin with `prefix`, in order."""
        return sorted(key for key in self._manifest.tensors if key.startswith(prefix))

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of the whole tensor.

        Raises:
            CheckpointError: no such tensor.
        """
        return self._tensor(key).shape

    def dtype(self, key: str) -> torch.dtype:
        """Return the type of the tensor's elements on disk.

        Raises:
            CheckpointError: no such tensor.
        """
        return DTYPES[self._tensor(key).dtype]

    def verify(self, level: Level = "size", *, files: Iterable[str] | None = None) -> None:
        """Compare files with the manifest: their sizes, or every byte of them.

        Args:
            level: `size` asks for the size of each file, `hash` reads the files.
            files: names of the files to compare; all of them by default. Ranks can divide the work.

        Raises:
            CheckpointError: a file is missing, unreadable or differs; names the first one, with what was expected and
                what was found.
            ValueError: a name is not that of a file of this checkpoint.
        """
        for name in self._manifest.files if files is None else files:
            path, expected = self.path / name, self._manifest.files.get(name)
            if expected is None:
                raise ValueError(f"{name!r} is not a file of checkpoint {self.path}")
            try:
                found = path.stat().st_size
                if found != expected.bytes:
                    raise CheckpointError(f"{path} has {found} bytes instead of {expected.bytes}: it is damaged")
                if level == "hash":
                    with open_regular(path, error=CheckpointError) as file:
                        digest = hashlib.file_digest(file, "sha256").hexdigest()
                    if digest != expected.sha256:
                        raise CheckpointError(
                            f"{path} has sha256 {digest[:16]}... instead of {expected.sha256[:16]}...: it is damaged"
                        )
            except FileNotFoundError:
                raise CheckpointError(f"{path} is missing: the checkpoint is not usable") from None
            except OSError as error:
                raise explain(error, doing="check the checkpoint", path=path) from error

    def read(self, key: str, start: int, stop: int, out: Tensor) -> None:
        """Fill `out` with the elements [start, stop) of the flattened tensor, reading these bytes only.

        Args:
            key: key of the tensor.
            start: first element.
            stop: the element after the last one.
            out: `stop - start` elements, of shape (n,) or contiguous in any shape, on any device, of the stored type or
                a wider float.

        Raises:
            CheckpointError: no such tensor or interval, a type that would lose digits, or the file is damaged.
            ValueError: `out` does not fit the interval.
        """
        # What is asked for must be there, and fit into `out` without loss.
        tensor = self._tensor(key)
        stored = DTYPES[tensor.dtype]
        if not 0 <= start <= stop <= math.prod(tensor.shape):
            raise CheckpointError(f"{self.path} holds {key} with shape {tensor.shape}: no elements [{start}, {stop})")
        wider = out.is_floating_point() and stored.is_floating_point and out.dtype.itemsize > stored.itemsize
        if out.dtype != stored and not wider:
            raise CheckpointError(
                f"{self.path} holds {key} as {stored}, which cannot become {out.dtype} without loss: read, then convert"
            )
        if out.numel() != stop - start or (out.dim() != 1 and not out.is_contiguous()):
            raise ValueError(f"out for {key}[{start}:{stop}] must have as many elements, and be 1-D or contiguous")
        # Each stored slice that meets the interval fills its part of it.
        flat = out.detach() if out.dim() == 1 else out.detach().view(-1)
        for stored_slice in tensor.stored_slices:
            low, high = max(start, stored_slice.start), min(stop, stored_slice.stop)
            if low < high:
                self._read_slice(key, tensor, stored_slice, low, flat[low - start : high - start])

    def fill(self, tensor_slice: TensorSlice) -> None:
        """Read the interval that a slice stands for into its values, shape (n,).

        Raises:
            CheckpointError: see `read`, or the tensor has another shape than the slice expects.
            ValueError: see `read`.
        """
        if tensor_slice.shape != self.shape(tensor_slice.key):
            raise CheckpointError(
                f"{self.path} holds {tensor_slice.key} with shape {self.shape(tensor_slice.key)}, "
                f"the network has {tensor_slice.shape}: "
                "the recipe differs from the one that was saved"
            )
        self.read(tensor_slice.key, tensor_slice.start, tensor_slice.stop, tensor_slice.values)

    def full(self, key: str) -> Tensor:
        """Return a whole tensor in its shape and stored type, in CPU memory.

        Raises:
            CheckpointError: no such tensor, or a file is missing or damaged.
        """
        tensor = self._tensor(key)
        for stored_slice in tensor.stored_slices:
            self._file(stored_slice.file)  # its size is checked, which bounds what is allocated
        out = torch.empty(tensor.shape, dtype=DTYPES[tensor.dtype])
        self.read(key, 0, out.numel(), out)
        return out

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        _close_all(self._open)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tensor(self, key: str) -> TensorRecord:
        if key not in self._manifest.tensors:
            like = ", ".join(difflib.get_close_matches(key, self._manifest.tensors, cutoff=0))
            raise CheckpointError(f"checkpoint {self.path} has no tensor {key!r}; the nearest keys are: {like}")
        return self._manifest.tensors[key]

    def _read_slice(self, key: str, tensor: TensorRecord, stored_slice: StoredSlice, start: int, out: Tensor) -> None:
        path = self.path / stored_slice.file
        descriptor, entries = self._file(stored_slice.file)
        entry = entries.get(stored_slice.stored_key)
        fits = (
            entry
            and entry.dtype == DTYPES[tensor.dtype]
            and math.prod(entry.shape) == stored_slice.stop - stored_slice.start
        )
        if entry is None or not fits:
            raise CheckpointError(f"{path} does not hold {stored_slice.stored_key} as the manifest says: it is damaged")
        try:
            read_flat(descriptor, entry, start - stored_slice.start, out)
        except EOFError as error:
            raise CheckpointError(f"{path} is damaged at tensor {key}: {error}") from error
        except OSError as error:
            raise explain(error, doing=f"read {key}", path=path) from error

    def _file(self, name: str) -> tuple[int, dict[str, Entry]]:
        if name not in self._open:
            self.verify("size", files=[name])
            path = self.path / name
            try:
                with open_regular(path, error=CheckpointError) as file:
                    entries, size = read_header(file)
                    if size != self._manifest.files[name].bytes:
                        raise ValueError(f"its header describes {size} bytes")
                    self._open[name] = os.dup(file.fileno()), entries
            except OSError as error:
                raise explain(error, doing="open a checkpoint file", path=path) from error
            except CheckpointError:
                raise
            except ValueError as error:
                raise CheckpointError(f"{path} is damaged: {error}") from error
        return self._open[name]


def _close_all(opened: dict[str, tuple[int, dict[str, Entry]]]) -> None:
    while opened:
        os.close(opened.popitem()[1][0])
