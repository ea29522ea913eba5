"""Names of a checkpoint's folders, files and tensors: the whole format on one page.

    <run>/checkpoints/<images>/            plain decimal: a complete checkpoint, visible only once everything is on disk
        manifest.json                      tensors -> slices, files -> size and sha256, the record; written last
        model-00001-of-00002.safetensors   averaged weights and buffers: all that sampling needs, every tensor whole
        model.safetensors.index.json       stored key -> file, as Hugging Face's readers of such a set expect
        state-00001-of-00002.safetensors   everything else: weights, moments, buffers; cut as the engine cuts them
        state.safetensors.index.json
        recipe.json, ...                   documents
        scores.json, evaluation.json       written later by evaluation; not covered by the manifest
    <run>/checkpoints/<images>.superseded/ a later checkpoint from before the run went back (kept until you delete it)
    <run>/checkpoints/.<images>-...        hidden: being written (.tmp), replaced or deleted

A tensor's key is `<player>/<kind>/<name>` or `state/<name>`. A slice that covers its whole tensor is stored under the
plain key with the full shape, so any safetensors reader can use the file; a partial interval [start, stop) of the
flattened tensor is stored flat as `<key>@<start>`. Slices may be cut anywhere, differently in every save. Every rank
writes one file of each set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from framework.checkpoint.errors import CheckpointError, explain

FORMAT = 1
MANIFEST = "manifest.json"
SCORES, EVALUATION = "scores.json", "evaluation.json"
ABORTED = "aborted"
EMA_KINDS = frozenset({"ema", "ema_buffer"})
"""The kinds of tensors that sampling needs: averaged weights, and the buffers that go with them."""

_COMPLETE = re.compile(r"(0|[1-9][0-9]*)")
_TEMPORARY = re.compile(r"\.(?P<images>[0-9]+)-(?P<token>.+)-(?P<sequence>[0-9]+)\.tmp")
_REPLACED = re.compile(r"\.(?P<images>[0-9]+)-.+\.replaced")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DOCUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.json")
_MODEL, _STATE = "model", "state"
_PART = re.compile(r"part-[0-9]+\.json")


@dataclass(frozen=True, kw_only=True)
class TensorSlice:
    """An interval of one tensor, as an engine hands it over or asks for it."""

    key: str
    """Key of the whole tensor: `<player>/<kind>/<name>` or `state/<name>`."""
    start: int
    """First element of the interval in the flattened tensor."""
    values: Tensor
    """The interval as the engine holds it, shape (n,), on any device, contiguous or not; weights are fp32."""
    shape: tuple[int, ...]
    """Shape of the whole tensor."""

    @property
    def stop(self) -> int:
        """Number of the element after the last one, in the flattened tensor."""
        return self.start + self.values.numel()

    @property
    def whole(self) -> bool:
        """True where the interval covers its tensor."""
        return self.start == 0 and self.values.numel() == math.prod(self.shape)

    @property
    def stored_key(self) -> str:
        """Name of the slice inside the safetensors file."""
        return self.key if self.whole else f"{self.key}@{self.start}"

    def check(self) -> None:
        """Refuse an interval that cannot be, which is a mistake in the engine and not in the user's data.

        Raises:
            ValueError: the key is not allowed, or the values are no interval of the tensor.
        """
        if not self.key or "@" in self.key or self.key.startswith("__"):
            raise ValueError(f"tensor key {self.key!r}: must not be empty, contain '@' or begin with '__'")
        if self.values.dim() != 1 or self.start < 0 or self.stop > math.prod(self.shape):
            raise ValueError(
                f"slice of {self.key}: values of shape {tuple(self.values.shape)} at {self.start} are not an interval "
                f"of a tensor of shape {self.shape}"
            )


def is_ema(key: str) -> bool:
    """Return whether the tensor belongs to the files that sampling needs."""
    player, _, rest = key.partition("/")
    return player != "state" and rest.partition("/")[0] in EMA_KINDS


def tensor_file(*, ema: bool, rank: int, world: int) -> str:
    """Return the name of one rank's tensor file: that for sampling if `ema`, else that for the rest."""
    return f"{_MODEL if ema else _STATE}-{rank + 1:05d}-of-{world:05d}.safetensors"


def index_files() -> dict[str, str]:
    """Return the name of every index -> beginning of the names of the files that it covers."""
    return {f"{name}.safetensors.index.json": f"{name}-" for name in (_MODEL, _STATE)}


def part_file(rank: int) -> str:
    """Return the name of the note by which a rank tells rank 0 that its files are complete."""
    return f"part-{rank:05d}.json"


def failed_file(rank: int) -> str:
    """Return the name of the empty file by which a rank says that it failed, where a full disk takes no reason."""
    return f"failed-{rank:05d}"


def check_document(name: str) -> None:
    """Refuse a document whose name cannot stand beside the manifest.

    Raises:
        ValueError: it is no plain file name, is reserved, or does not end in `.json`.
    """
    reserved = (MANIFEST, SCORES, EVALUATION, *index_files())
    if not _DOCUMENT.fullmatch(name) or name in reserved or _PART.fullmatch(name):
        raise ValueError(f"document {name!r}: must be a plain, unreserved file name ending in .json")


def check_token(token: str) -> None:
    """Refuse a token that cannot stand in a folder's name.

    Raises:
        ValueError: it has other characters than letters, digits, `_`, `.` and `-`.
    """
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"token {token!r}: must consist of letters, digits, '_', '.' and '-'")


def temporary_folder(folder: Path, *, images_seen: int, token: str, sequence: int) -> Path:
    """Return the folder in which the `sequence`-th save of the launch `token` is assembled."""
    return folder / f".{images_seen}-{token}-{sequence}.tmp"


def parse_temporary(name: str) -> tuple[str, int] | None:
    """Return (token, sequence) of a temporary folder's name, or None for any other name."""
    match = _TEMPORARY.fullmatch(name)
    return (match["token"], int(match["sequence"])) if match else None


def replaced_folder(folder: Path, *, images_seen: int, token: str, sequence: int) -> Path:
    """Return the folder in which a checkpoint waits while its successor of the same images takes its place."""
    return folder / f".{images_seen}-{token}-{sequence}.replaced"


def parse_replaced(name: str) -> int | None:
    """Return the clock of a checkpoint that waits in a replaced folder, or None for any other name."""
    match = _REPLACED.fullmatch(name)
    return int(match["images"]) if match else None


def parse_complete(name: str) -> int | None:
    """Return the clock in a checkpoint folder's name, or None for any other name."""
    return int(name) if _COMPLETE.fullmatch(name) else None


def checkpoint_folders(folder: Path) -> dict[int, Path]:
    """Return the clock -> folder of every checkpoint, ascending; nothing where `folder` does not exist.

    A replaced checkpoint counts while its successor is missing: the job was killed between the two renames.

    Raises:
        CheckpointError: the folder cannot be listed.
    """
    try:
        paths = [path for path in folder.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise explain(error, doing="list checkpoints", path=folder) from error
    found = {images: path for path in paths if (images := parse_replaced(path.name)) is not None}
    found |= {images: path for path in paths if (images := parse_complete(path.name)) is not None}
    return dict(sorted(found.items()))


def check_coverage(key: str, shape: Iterable[int], stored_slices: Iterable[tuple[int, int]]) -> None:
    """Refuse intervals (start, stop) that do not cover a tensor of this shape exactly once.

    Raises:
        CheckpointError: names the tensor and the elements that are missing or stored twice.
    """
    numel, reached, ordered = math.prod(shape), 0, sorted(stored_slices)
    if numel == 0 and len(ordered) != 1:
        raise CheckpointError(f"the empty tensor {key} is stored {len(ordered)} times; it must be stored once")
    for start, stop in [*ordered, (numel, numel)]:
        if start != reached:
            fault = "are stored twice" if start < reached else "are missing"
            low, high = sorted((start, reached))
            raise CheckpointError(
                f"elements [{low}, {high}) of tensor {key} {fault}: the engine's slices do not cover it exactly once"
            )
        reached = stop
