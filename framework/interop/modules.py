"""A reader for NVlabs' and R3GAN's pickles, which turns the records of modules into options and named tensors."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framework.interop.inert import MOST_TIMES, PERSISTENT, Record, Steps, check_view
from framework.interop.unpickle import read_pickle, read_torch
from framework.utils.bounded import decoding, read_file
from framework.utils.errors import FrameworkError

_MOST_PICKLE_BYTES = 16 << 30
_LARGEST_OPTION = 1 << 62
_DEEPEST = 64
"""The deepest nesting of modules; one that goes deeper contains itself."""


@dataclass(frozen=True, kw_only=True)
class ForeignModule:
    """A module of a network pickle."""

    options: dict[str, Any]
    """The keyword arguments it was built with, as far as they are numbers, strings, or containers of them."""
    state: dict[str, Tensor]
    """The tensors that its `state_dict()` would hold."""


def read_network_pickle(path: Path) -> dict[str, ForeignModule]:
    """Return the modules of a network pickle by their key (`G`, `D`, `G_ema`).

    Raises:
        FrameworkError: the file holds anything but modules, tensors, plain containers, numbers and strings.
    """
    content = read_pickle(io.BytesIO(read_file(path, most_bytes=_MOST_PICKLE_BYTES)), source=path)
    if not isinstance(content, Mapping):
        raise FrameworkError(f"{path}: expected a dictionary of networks, found {type(content).__name__}")
    modules, walk = {}, _Walk(path)
    for key, value in content.items():
        if isinstance(key, str) and _fields(value) is not None:
            modules[key] = ForeignModule(options=_options(value, walk.steps), state=dict(walk.tensors(value)))
    return {key: module for key, module in modules.items() if module.state}


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return the attributes of the module that a record describes; None if it describes no module."""
    fields = None
    if isinstance(value, Record) and value.origin == PERSISTENT and value.arguments:
        meta = value.arguments[0]
        fields = meta.get("state") if isinstance(meta, Mapping) else None
    elif isinstance(value, Record):
        fields = value.state
    return fields if isinstance(fields, Mapping) and "_parameters" in fields else None


def _options(module: Any, steps: Steps) -> dict[str, Any]:
    options = (_fields(module) or {}).get("_init_kwargs")
    plain = {key: _plain(value, steps) for key, value in options.items()} if isinstance(options, Mapping) else {}
    return {key: value for key, value in plain.items() if isinstance(key, str) and value is not ...}


def _plain(value: Any, steps: Steps, depth: int = 0) -> Any:
    """Return numbers, strings, and lists and dictionaries of them as they are; `...` for anything else."""
    steps.take()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_OPTION:
        return ...
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        items = [_plain(item, steps, depth + 1) for item in value]
        return ... if any(item is ... for item in items) else items
    if isinstance(value, Mapping) and depth < _DEEPEST:
        plain = {key: _plain(item, steps, depth + 1) for key, item in value.items()}
        texts = all(isinstance(key, str) for key in plain)
        return plain if texts and not any(item is ... for item in plain.values()) else ...
    return ...


class _Walk:
    """A walk through the modules of one file, which bounds the bytes of their tensors by those of the file."""

    def __init__(self, path: Path) -> None:
        self.steps = Steps(path)
        self._path = path
        self._left_bytes = MOST_TIMES * path.stat().st_size

    def tensors(self, module: Any, *, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and tensors of parameters and buffers in the order of `state_dict()`."""
        self.steps.take()
        fields = _fields(module)
        if fields is None:
            return
        if depth > _DEEPEST:
            raise FrameworkError(f"{self._path}: module {prefix} contains itself")
        groups = [fields.get(group, {}) for group in ("_parameters", "_buffers", "_modules")]
        hidden = fields.get("_non_persistent_buffers_set", set())
        if not all(isinstance(group, Mapping) for group in groups) or not isinstance(hidden, set):
            raise FrameworkError(f"{self._path}: {prefix or 'the network'} is not a module")
        parameters, buffers, children = groups
        for name, value in [*parameters.items(), *((n, b) for n, b in buffers.items() if n not in hidden)]:
            self.steps.take()
            if value is not None:
                yield f"{prefix}{name}", self._tensor(value, name=f"{prefix}{name}")
        for name, child in children.items():
            yield from self.tensors(child, prefix=f"{prefix}{name}.", depth=depth + 1)

    def _tensor(self, value: Any, *, name: str) -> Tensor:
        source = f"{self._path}: {name}"
        if isinstance(value, Record) and value.origin == "torch._utils._rebuild_parameter":
            value = value.arguments[0] if value.arguments else None
        raw, offset, size, stride = _rebuilding(value)
        if raw is None:
            raise FrameworkError(f"{source} is not a tensor")
        self._left_bytes -= len(raw)
        if self._left_bytes < 0:
            raise FrameworkError(
                f"{source}: a module contains itself, or the tensors have more than {MOST_TIMES} times the file's bytes"
            )
        values = read_torch(io.BytesIO(raw), source=source)
        if not isinstance(values, torch.storage.TypedStorage):
            raise FrameworkError(f"{source} holds {type(values).__name__} instead of a tensor's values")
        item_bytes = torch.empty(0, dtype=values.dtype).itemsize
        try:
            check_view(values._untyped_storage.nbytes() // item_bytes, offset, size, stride)
        except FrameworkError as error:
            raise FrameworkError(f"{source} is not a tensor: {error}") from None
        with decoding(source):
            flat = torch.empty(0, dtype=values.dtype)
            return flat.set_(values._untyped_storage, offset, size, stride).contiguous()


def _rebuilding(value: Any) -> tuple[bytes | None, Any, Any, Any]:
    """Return values, offset, size and stride of a tensor; the values are None if the record describes no tensor."""
    if not (isinstance(value, Record) and value.origin == "torch._utils._rebuild_tensor_v2"):
        return None, 0, (), ()
    storage, offset, size, stride = (*value.arguments, None, None, None, None)[:4]
    size, stride = (
        each.arguments[0] if isinstance(each, Record) and each.arguments else each for each in (size, stride)
    )
    if not (isinstance(storage, Record) and storage.origin == "torch.storage._load_from_bytes" and storage.arguments):
        return None, 0, (), ()
    return _bytes(storage.arguments[0]), offset, size, stride


def _bytes(value: Any) -> bytes | None:
    """Return bytes, which pickles of protocol 2 write as a text to be encoded; None for anything else."""
    if isinstance(value, Record) and value.origin == "_codecs.encode" and value.arguments[1:] == ("latin1",):
        value = value.arguments[0]
        return value.encode("latin1", errors="replace") if isinstance(value, str) else None
    return value if isinstance(value, bytes) else None
