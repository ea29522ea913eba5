"""Inert records of what a foreign pickle holds, and the bounds on it.

torch makes a tensor of any shape that a file names: it takes memory for it, or reads beyond its values, before it
checks them. So a file of torch's is read twice: first as records, here, where storages are compared with the bytes of
the file and tensors with their storages; then by torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from framework.utils.bounded import MOST_AXES, element_count
from framework.utils.errors import FrameworkError

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
"""The function that rebuilds an object of a class whose source is in the pickle, from `class_name` and `state`."""
MOST_TIMES = 4
"""The most times that the bytes of a file may appear in its tensors, because tied weights share a storage."""

_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter")
_TEXT, _SIZE, _DEVICE = "_codecs.encode", "torch.Size", "torch.device"
_MOST_STEPS = 1 << 20
_MOST_COPIED = 1 << 18
"""The most entries of lists, counted together, from which a pickle may make dictionaries and sets."""

_ITEM_BYTES = {
    "torch.DoubleStorage": 8,
    "torch.FloatStorage": 4,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.LongStorage": 8,
    "torch.IntStorage": 4,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
    "torch.ComplexFloatStorage": 8,
    "torch.ComplexDoubleStorage": 16,
    "torch.storage.UntypedStorage": 1,
}
_DTYPES = {
    f"torch.{name}"
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
TORCH_NAMES = {
    *(_TENSOR, *_PARAMETERS, _TEXT, _SIZE, _DEVICE),
    *_ITEM_BYTES,
    *_DTYPES,
}
"""The names that files of weights hold besides plain containers; torch knows more, which no weights need."""


class Record:
    """The record of an object that a pickle describes and that is not built; `origin` names its class or function."""

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


def counted() -> tuple[type[dict[Any, Any]], type[set[Any]]]:
    """Return classes of dictionaries and sets for one pickle, which count what they copy.

    A pickle may make a set of the same long list a thousand times, in three bytes each.
    """
    left = _MOST_COPIED

    def take(keys: list[Any]) -> None:
        nonlocal left
        left -= len(keys)
        if left < 0:
            raise FrameworkError(f"it copies more than {_MOST_COPIED} entries into dictionaries and sets")
        if any(isinstance(key, tuple) for key in keys):  # see `framework.interop.operations`
            raise FrameworkError("it makes a dictionary or a set of tuples, which no weights hold")

    class Dictionary(dict[Any, Any]):
        def __init__(self, pairs: Any = ()) -> None:
            if not isinstance(pairs, list | tuple) or not all(
                isinstance(p, list | tuple) and len(p) == 2 for p in pairs
            ):
                raise FrameworkError("it makes a dictionary of something else than pairs")
            take([key for key, _ in pairs])
            super().__init__(pairs)

        def __setstate__(self, state: Any) -> None:
            """Accept the versions of modules beside a state dict; any other attribute could change the dictionary."""
            if not isinstance(state, Mapping) or state.keys() - {"_metadata"}:
                raise FrameworkError("it gives a dictionary attributes, which no weights have")

    class Members(set[Any]):
        def __init__(self, members: Any = ()) -> None:
            if not isinstance(members, list | tuple):
                raise FrameworkError("it makes a set of something else than a list")
            take(list(members))
            super().__init__(members)

    return Dictionary, Members


class Steps:
    """A limit on the steps of a walk through a pickle, whose containers may hold themselves, or one another twice.

    Args:
        source: the name of the pickle, for the message.
    """

    def __init__(self, source: object) -> None:
        self._source = source
        self._left = _MOST_STEPS

    def take(self) -> None:
        """Count one step.

        Raises:
            FrameworkError: there have been too many.
        """
        self._left -= 1
        if self._left < 0:
            raise FrameworkError(f"{self._source}: what it holds contains itself, or the same things without end")


class TorchPickle:
    """The storages and tensors that a pickle of torch's names.

    Args:
        num_bytes: the bytes of the file.
        stored: the bytes of each storage by its key, if the file tells them (a zip archive).
    """

    def __init__(self, *, num_bytes: int, stored: Mapping[str, int] | None = None) -> None:
        self._num_bytes = num_bytes
        self._stored = stored
        self._storages: dict[str, int] = {}
        self._stored_bytes = self._used_bytes = 0

    def storage(self, pid: Any) -> Record:
        """Return a record for a persistent id ("storage", class, key, device, number of elements, a view in old files).

        Raises:
            FrameworkError: it describes no storage, or one that is larger than its bytes in the file.
        """
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
            raise FrameworkError("it refers to something outside it that is no storage: refused")
        kind, key, numel = pid[1], pid[2], pid[4]
        # The class itself, not an object of it.
        origin = kind.origin if isinstance(kind, type) and issubclass(kind, Record) else ""
        if origin not in _ITEM_BYTES or not isinstance(key, str) or not is_count(numel):
            raise FrameworkError("it describes a storage in a way that cannot be")
        view = pid[5] if len(pid) == 6 else None
        if view is not None:
            raise FrameworkError("it holds views of storages, as torch before 0.4 wrote them: refused")
        num_bytes = numel * _ITEM_BYTES[origin]
        if self._stored is not None and num_bytes > self._stored.get(key, -1):
            raise FrameworkError(f"storage {key!a} of {num_bytes} bytes is larger than what the file has of it")
        known = self._storages.get(key, 0)
        self._storages[key] = max(num_bytes, known)
        self._stored_bytes += self._storages[key] - known
        if self._stored_bytes > self._num_bytes and self._stored is None:
            raise FrameworkError(f"its storages have more bytes than the file's {self._num_bytes}")
        record = Record(numel, _ITEM_BYTES[origin])
        record.origin = "storage"
        return record

    def tensor(self, arguments: tuple[Any, ...]) -> None:
        """Check that the tensor a call of `_rebuild_tensor_v2` asks for lies in its storage.

        Raises:
            FrameworkError: it is no tensor, or reaches beyond its values.
        """
        storage, offset, size, stride = (*arguments, None, None, None, None)[:4]
        if not (isinstance(storage, Record) and storage.origin == "storage"):
            raise FrameworkError("a tensor has no storage")
        numel, item_bytes = storage.arguments
        self._use(check_view(numel, offset, size, stride) * item_bytes)

    def call(self, origin: str, arguments: tuple[Any, ...]) -> None:
        """Check a call of one of `TORCH_NAMES`, because torch's reader makes it with any arguments.

        Raises:
            FrameworkError: no file of weights makes such a call.
        """
        first = arguments[0] if arguments else None
        if origin == _TENSOR:
            self.tensor(arguments)
        elif origin in _PARAMETERS:
            # (data, requires_grad, hooks), or of the class itself the first two.
            fits = isinstance(first, Record) and first.origin == _TENSOR and len(arguments) <= 3
            if not fits:
                raise FrameworkError("a parameter has no tensor")
        elif origin == _TEXT:
            # Other encodings take quadratic time, or become longer without end.
            if not isinstance(first, str) or arguments[1:] not in (("latin1",), ("latin-1",)):
                raise FrameworkError("it encodes a text in a way that torch.save does not")
            self._use(len(first))
        elif origin == _SIZE:
            if len(arguments) > 1 or _plain_size(first if arguments else ()) is None:
                raise FrameworkError("it has a size that is no list of counts")
        elif origin == _DEVICE:
            if not all(isinstance(each, str | int) for each in arguments):
                raise FrameworkError("it names a device in a way that cannot be")
        else:  # types of storages and of elements
            raise FrameworkError(f"it calls {origin}, which no weights do")

    def holder(self, origin: str) -> type[Record]:
        """Return the class of records for one of `TORCH_NAMES`, whose calls are checked, or for an option holder."""
        if origin not in TORCH_NAMES:
            return type("Record", (Record,), {"origin": origin})
        check = self.call

        def new(cls: type[Record], *arguments: Any) -> Record:
            check(origin, arguments)
            return Record.__new__(cls, *arguments)

        def refuse(_: Record, __: Any) -> None:
            # torch would put the tensor on any part of any storage.
            raise FrameworkError(f"it gives {origin} a state, as torch before 0.4 did: refused")

        return type("Record", (Record,), {"origin": origin, "__new__": new, "__setstate__": refuse})

    def _use(self, num_bytes: int) -> None:
        self._used_bytes += num_bytes
        if self._used_bytes > MOST_TIMES * self._num_bytes:
            raise FrameworkError(f"its tensors have more than {MOST_TIMES} times the file's {self._num_bytes} bytes")


def check_view(numel: int, offset: object, size: object, stride: object) -> int:
    """Return the number of elements of a tensor in a storage of `numel` elements.

    Raises:
        FrameworkError: offset, size and stride are no counts, reach beyond the storage, or repeat its elements.
    """
    size, stride = (_plain_size(each) for each in (size, stride))
    if not (is_count(offset) and size is not None and stride is not None and len(size) == len(stride)):
        raise FrameworkError("offset, size and stride of a tensor must be counts, one stride for each length")
    count = element_count(size, source="a tensor")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))  # type: ignore[operator]
    if count > numel or (count and last >= numel):
        raise FrameworkError(f"a tensor of shape {size} and strides {stride} is larger than its {numel} values")
    return count


def is_count(value: object) -> bool:
    """Return whether a value is an integer that can count elements of memory."""
    return type(value) is int and 0 <= value < 1 << 48


def _plain_size(value: object) -> tuple[int, ...] | None:
    if isinstance(value, Record) and value.origin == "torch.Size" and value.arguments:
        value = value.arguments[0]
    fits = isinstance(value, tuple | list) and len(value) <= MOST_AXES and all(is_count(each) for each in value)
    return tuple(value) if fits else None  # type: ignore[arg-type]
