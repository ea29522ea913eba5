"""Foreign pickles read as data: no code of theirs, and no code they name, ever runs.

Two kinds of files are pickles. `.pth` files go through `torch.load(weights_only=True)`. The network pickles of NVlabs
(StyleGAN2-ADA, StyleGAN3) and R3GAN hold whole modules, with the source text of their classes; they are read by the
unpickler below. It knows a closed list of names. A name on the list becomes an *inert record* that keeps what the
pickle said about the object (its arguments, its state) and can do nothing; any other name is refused. Afterwards the
records that stand for tensors are turned into tensors, with checked bounds, and modules are walked for parameters and
buffers. Source text in the file is skipped like any other string.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from framework.errors import FrameworkError

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
"""Rebuilds an object of a class whose source is in the pickle; its one argument holds `class_name` and `state`."""

_DICTS = {"collections.OrderedDict", "dnnlib.util.EasyDict", "dnnlib.EasyDict"}
_SETS = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset")}
_RECORDS = {
    PERSISTENT,
    "_codecs.encode",  # bytes, in pickles of protocol 2
    "copyreg._reconstructor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.storage._load_from_bytes",
    "torch.Size",
    "torch.device",
    "torch.float32",
    "torch.float16",
    "builtins.object",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.float32",
    "numpy.float64",
    "numpy.int64",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
}
_MODULE_CLASSES = ("torch.nn.modules.", "R3GAN.")
"""Modules of which every name may stand for a class of layers; they too become inert records."""

_TENSORFLOW = "dnnlib.tflib."
_CONFIGURATIONS = ("argparse.Namespace", "models.utils.config.BaseConfig", "training.config.EasyDict")
"""Option holders that stand beside the weights in public `.pth` files (rosinality, pytorch_GAN_zoo)."""

_MOST_NUMBERS = 1 << 40
"""In a tensor."""

_DEEPEST = 64
"""Nesting of modules; deeper is a module that contains itself."""


class Record:
    """What a pickle says about an object that is not built: `origin` names its class or function."""

    origin = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any, **keywords: Any) -> Record:
        """Keep the arguments, whatever they are."""
        record = super().__new__(cls)
        record.arguments = arguments
        record.state = None
        return record

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state


@dataclass(frozen=True, kw_only=True)
class ForeignModule:
    """A module of a network pickle."""

    options: dict[str, Any]
    """Keyword arguments it was built with, those that are numbers, strings, or containers of them."""
    state: dict[str, Tensor]
    """As its `state_dict()` would give it."""


class _Unpickler(pickle.Unpickler):
    """Builds numbers, strings, bytes, plain containers and records."""

    def find_class(self, module: str, name: str) -> Any:
        """The record class for a known name; nothing is imported.

        Raises:
            FrameworkError: any other name.
        """
        origin = f"{module}.{name}"
        if origin in _DICTS:
            return dict
        if origin in _SETS:
            return set
        if origin.startswith(_TENSORFLOW):
            raise FrameworkError(
                f"the file is a pickle of the TensorFlow programs (it names {origin}): convert it first with the "
                "authors' legacy.py of stylegan2-ada-pytorch or stylegan3"
            )
        if origin in _RECORDS or origin.startswith(_MODULE_CLASSES):
            return type("Record", (Record,), {"origin": origin})
        raise FrameworkError(_refusal(origin))

    def persistent_load(self, pid: Any) -> Any:
        """Objects outside the file do not exist."""
        raise FrameworkError("the file refers to objects outside it (persistent ids): refused")


def read_network_pickle(path: Path) -> dict[str, ForeignModule]:
    """The modules of a network pickle by their key (`G`, `D`, `G_ema`).

    Raises:
        FrameworkError: the file holds anything but modules, tensors, plain containers, numbers and strings.
    """
    with path.open("rb") as file:
        content = _unpickled(file, source=path)
    if not isinstance(content, Mapping):
        raise FrameworkError(f"{path}: expected a dictionary of networks, found {type(content).__name__}")
    modules = {}
    for key, value in content.items():
        if isinstance(key, str) and _fields(value) is not None:
            modules[key] = ForeignModule(options=_options(value), state=dict(_tensors(value, source=path)))
    return {key: module for key, module in modules.items() if module.state}


def read_torch(file: Path | BinaryIO, *, source: Path) -> Any:
    """What `torch.save` wrote: tensors, plain containers, numbers and strings; option holders become records.

    Raises:
        FrameworkError: anything else; names the file and what it asked for.
    """
    holders: list[Any] = [(type("Record", (Record,), {"origin": origin}), origin) for origin in _CONFIGURATIONS]
    try:
        with torch.serialization.safe_globals(holders):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # torch passes on whatever a damaged file provokes
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is not None:
            raise FrameworkError(f"{source}: {_refusal(named[1])}") from None
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().split("\n")[0]
        raise FrameworkError(f"{source}: not a file of weights ({type(error).__name__}: {reason})") from None


def _refusal(name: str) -> str:
    return f"the file names {name}, which is not part of a network's weights: refused"


def _unpickled(file: BinaryIO, *, source: Path) -> Any:
    try:
        return _Unpickler(file).load()
    except FrameworkError as error:
        raise FrameworkError(f"{source}: {error}") from None
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a damaged or hostile pickle provokes almost any type of error
        raise FrameworkError(f"{source}: not a network pickle ({type(error).__name__}: {error})") from None


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Attributes of the object a record stands for, or None where it stands for no module."""
    fields = None
    if isinstance(value, Record) and value.origin == PERSISTENT and value.arguments:
        meta = value.arguments[0]
        fields = meta.get("state") if isinstance(meta, Mapping) else None
    elif isinstance(value, Record):
        fields = value.state
    return fields if isinstance(fields, Mapping) and "_parameters" in fields else None


def _options(module: Any) -> dict[str, Any]:
    options = (_fields(module) or {}).get("_init_kwargs")
    plain = {key: _plain(value) for key, value in options.items()} if isinstance(options, Mapping) else {}
    return {key: value for key, value in plain.items() if isinstance(key, str) and value is not ...}


def _plain(value: Any, depth: int = 0) -> Any:
    """Numbers, strings, and lists and dictionaries of them as they are; `...` for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        items = [_plain(item, depth + 1) for item in value]
        return ... if ... in items else items
    if isinstance(value, Mapping) and depth < _DEEPEST:
        plain = {str(key): _plain(item, depth + 1) for key, item in value.items()}
        return ... if ... in plain.values() else plain
    return ...


def _tensors(module: Any, *, source: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers in the order of `state_dict()`."""
    fields = _fields(module)
    if fields is None:
        return
    if depth > _DEEPEST:
        raise FrameworkError(f"{source}: module {prefix} contains itself")
    groups = [fields.get(group, {}) for group in ("_parameters", "_buffers", "_modules")]
    hidden = fields.get("_non_persistent_buffers_set", set())
    if not all(isinstance(group, Mapping) for group in groups) or not isinstance(hidden, set):
        raise FrameworkError(f"{source}: {prefix or 'the network'} is not a module")
    parameters, buffers, children = groups
    for name, value in [*parameters.items(), *((n, b) for n, b in buffers.items() if n not in hidden)]:
        if value is not None:
            yield f"{prefix}{name}", _tensor(value, name=f"{prefix}{name}", source=source)
    for name, child in children.items():
        yield from _tensors(child, source=source, prefix=f"{prefix}{name}.", depth=depth + 1)


def _tensor(value: Any, *, name: str, source: Path) -> Tensor:
    if isinstance(value, Record) and value.origin == "torch._utils._rebuild_parameter":
        value = value.arguments[0]
    raw, offset, size, stride = _rebuilding(value) or (None, 0, (), ())
    if raw is None:
        raise FrameworkError(f"{source}: {name} is not a tensor")
    values = read_torch(io.BytesIO(raw), source=source)
    if not isinstance(values, torch.storage.TypedStorage):
        raise FrameworkError(f"{source}: {name} holds {type(values).__name__} instead of a tensor's values")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    flat, untyped = torch.empty(0, dtype=values.dtype), values._untyped_storage
    if math.prod(size) and last >= untyped.nbytes() // flat.itemsize:
        raise FrameworkError(f"{source}: {name} is larger than its values")
    return flat.set_(untyped, offset, size, stride).contiguous()


def _rebuilding(value: Any) -> tuple[bytes, int, tuple[int, ...], tuple[int, ...]] | None:
    """Values, offset, size and stride of a tensor, or None where the record describes no possible tensor."""
    if not (isinstance(value, Record) and value.origin == "torch._utils._rebuild_tensor_v2"):
        return None
    storage, offset, size, stride = (*value.arguments, None, None, None, None)[:4]
    size, stride = (
        each.arguments[0] if isinstance(each, Record) and each.arguments else each for each in (size, stride)
    )
    if not (isinstance(storage, Record) and storage.origin == "torch.storage._load_from_bytes" and storage.arguments):
        return None
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)):
        return None
    if not all(type(number) is int and 0 <= number < _MOST_NUMBERS for number in (offset, *size, *stride)):
        return None
    raw = _bytes(storage.arguments[0])
    return None if raw is None else (raw, offset, size, stride)


def _bytes(value: Any) -> bytes | None:
    """Bytes, which pickles of protocol 2 write as text to be encoded."""
    if isinstance(value, Record) and value.origin == "_codecs.encode" and value.arguments[1:] == ("latin1",):
        value = value.arguments[0]
        return value.encode("latin1", errors="replace") if isinstance(value, str) else None
    return value if isinstance(value, bytes) else None
