"""A reader for files of foreign weights; whatever its format, a file becomes named state dicts, tensors on the CPU.

`.pth`/`.pt` (both of torch's formats), NVlabs `.pkl`, `.npz` and `.safetensors`; the content decides, not the suffix.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from framework.checkpoint.tensorfile import read_flat, read_header
from framework.interop.inert import Steps
from framework.interop.modules import read_network_pickle
from framework.interop.unpickle import read_torch
from framework.utils.archives import Arrays
from framework.utils.bounded import decoding, open_regular
from framework.utils.errors import FrameworkError

_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first bytes of a file of `torch.save` that is no zip archive."""

_DEEPEST = 4
"""The deepest nesting of dictionaries in which state dicts are looked for."""


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """The state dicts of a file, tensors of any shape on the CPU."""

    path: Path
    states: Mapping[str, Mapping[str, Tensor]]
    """The state dicts by their place in the file: `G_ema`, `model_state_dict`, `""` for a file that is itself one."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The arguments that networks were built with, by the same names, if the file holds them."""


def read_file(path: Path) -> ForeignFile:
    """Return the state dicts in a file.

    Raises:
        FrameworkError: there is no such file, its format is unknown, or it holds more than weights.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            content = _read(file, path)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise FrameworkError(f"{path}: {'no such file' if missing else error.strerror}") from None
    if isinstance(content, ForeignFile):
        return content
    states = dict(_states(content, Steps(path)))
    if not states:
        raise FrameworkError(f"{path}: holds no state dict (names to tensors)")
    return ForeignFile(path=path, states=states)


def _read(file: BinaryIO, path: Path) -> Any:
    """Return the content of a file, or the networks of a network pickle."""
    head = file.read(16)
    if head.startswith(b"PK"):
        return _read_archive(file, path)
    if head.startswith(_TORCH_LEGACY):
        return read_torch(file, source=path)
    if head[8:9] == b"{":
        file.seek(0)
        return _read_safetensors(file, path)
    if head.startswith((b"\x80", b"(", b"}", b"c")):
        modules = read_network_pickle(path)
        if not modules:
            raise FrameworkError(f"{path}: holds no network")
        return ForeignFile(
            path=path,
            states={name: module.state for name, module in modules.items()},
            options={name: module.options for name, module in modules.items()},
        )
    raise FrameworkError(f"{path}: unknown format; .pth, .pt, NVlabs .pkl, .npz and .safetensors can be read")


def _read_archive(file: BinaryIO, path: Path) -> Any:
    with decoding(path), zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if not all(name.endswith(".npy") for name in names):
        return read_torch(file, source=path)
    with Arrays(path) as arrays, decoding(path):
        found = ((name, arrays[name]) for name in arrays)
        return {name: torch.from_numpy(array) for name, array in found if array.dtype.kind in "biuf"}


def _read_safetensors(file: BinaryIO, path: Path) -> dict[str, Tensor]:
    tensors = {}
    with decoding(path):
        entries, _ = read_header(file)
        for name, entry in entries.items():
            tensors[name] = torch.empty(entry.shape, dtype=entry.dtype)
            read_flat(file.fileno(), entry, 0, tensors[name].view(-1))
    return tensors


def _states(content: Any, steps: Steps, name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every dictionary with named tensors in nested dictionaries, with its path; other values are left out."""
    steps.take()
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield name, tensors
    for key, value in content.items():
        if isinstance(key, str):
            yield from _states(value, steps, f"{name}.{key}" if name else key, depth + 1)
