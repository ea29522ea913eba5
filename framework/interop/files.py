"""Reading a file of foreign weights: whatever its format, it becomes named state dicts, tensors on the CPU.

`.pth`/`.pt` (both of torch's formats), NVlabs `.pkl`, `.npz` and `.safetensors`; the content decides, not the suffix.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framework.checkpoint.tensorfile import read_flat, read_header
from framework.errors import FrameworkError
from framework.interop.unpickle import read_network_pickle, read_torch

_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of `torch.save` begins that is no zip archive."""

_DEEPEST = 4
"""Dictionaries within dictionaries in which state dicts are looked for."""


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """The state dicts of a file."""

    path: Path
    states: Mapping[str, Mapping[str, Tensor]]
    """By where they stand: `G_ema`, `model_state_dict`, `""` for a file that is itself one."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the file tells about how a network was built, by the same names."""


def read_file(path: Path) -> ForeignFile:
    """The state dicts in a file.

    Raises:
        FrameworkError: no such file, an unknown format, or content that is more than weights.
    """
    path = Path(path)
    if not path.is_file():
        raise FrameworkError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK"):
        content = _read_archive(path)
    elif head.startswith(_TORCH_LEGACY):
        content = read_torch(path, source=path)
    elif head[8:9] == b"{":
        content = _read_safetensors(path)
    elif head.startswith((b"\x80", b"(", b"}", b"c")):
        modules = read_network_pickle(path)
        if not modules:
            raise FrameworkError(f"{path}: holds no network")
        return ForeignFile(
            path=path,
            states={name: module.state for name, module in modules.items()},
            options={name: module.options for name, module in modules.items()},
        )
    else:
        raise FrameworkError(f"{path}: unknown format; .pth, .pt, NVlabs .pkl, .npz and .safetensors can be read")
    states = dict(_states(content))
    if not states:
        raise FrameworkError(f"{path}: holds no state dict (names to tensors)")
    return ForeignFile(path=path, states=states)


def _read_archive(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise FrameworkError(f"{path}: damaged ({error})") from None
    if all(name.endswith(".npy") for name in names):
        return _read_npz(path)
    return read_torch(path, source=path)


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {
                name: torch.from_numpy(archive[name]) for name in archive.files if archive[name].dtype.kind in "biuf"
            }
    except (ValueError, TypeError, EOFError) as error:
        raise FrameworkError(f"{path}: {error}") from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    tensors = {}
    with path.open("rb") as file:
        try:
            entries, _ = read_header(file)
            for name, entry in entries.items():
                tensors[name] = torch.empty(entry.shape, dtype=entry.dtype)
                read_flat(file.fileno(), entry, 0, tensors[name].view(-1))
        except (ValueError, EOFError) as error:
            raise FrameworkError(f"{path}: damaged ({error})") from None
    return tensors


def _states(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary of named tensors in nested dictionaries, by its path; other values beside the tensors too."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield name, tensors
    for key, value in content.items():
        if isinstance(key, str):
            yield from _states(value, f"{name}.{key}" if name else key, depth + 1)
