"""A check of a foreign pickle's operations, before any of them is carried out, for how much they would make.

Python hashes a tuple anew each time it becomes a key, with everything in it. Sixty operations make a tuple that holds
2^60 others, or one so deep that hashing it ends the interpreter. No weights have such keys, so they are refused.
"""

from __future__ import annotations

import pickletools
from typing import BinaryIO, NamedTuple

from framework.utils.errors import FrameworkError

MOST_OPERATIONS = 1 << 19
"""The most operations in one pickle; an object takes up to 220 bytes, so this bounds the memory of a small file."""
MOST_IN_A_KEY = 64
"""The most values in a tuple that is a key, those in its tuples included."""

_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET", "DUP"}
_KEYS = {"SETITEM": slice(1, None, 2), "SETITEMS": slice(0, None, 2), "DICT": slice(0, None, 2)} | dict.fromkeys(
    ("ADDITEMS", "FROZENSET"), slice(None)
)
"""The values taken by an operation that become keys; the first that SETITEM takes is the dictionary itself."""
_MARK = 0


class _Kind(NamedTuple):
    """The effect of an operation on the stack."""

    name: str
    takes: int
    """The number of values it takes; if it takes all down to the mark, the number below the mark."""
    to_mark: bool
    leaves: list[int]
    """The sizes of the values it leaves, unless it makes a tuple."""
    keys: slice | None


def _kind(operation: pickletools.OpcodeInfo) -> _Kind:
    before, to_mark = operation.stack_before, pickletools.markobject in operation.stack_before
    takes = before.index(pickletools.markobject) if to_mark else len(before)
    leaves = [_MARK if each is pickletools.markobject else 1 for each in operation.stack_after]
    return _Kind(operation.name, takes, to_mark, leaves, _KEYS.get(operation.name))


_KINDS = {operation.code: _kind(operation) for operation in pickletools.opcodes}


def check_operations(file: BinaryIO) -> None:
    """Check that a pickle makes no more than its bytes could hold: few enough objects, short keys, no gaps in its memo.

    Args:
        file: a file at the beginning of the pickle; it is read to the pickle's end.

    Raises:
        FrameworkError: the pickle makes too much.
        ValueError: it is no pickle.
    """
    sizes: list[int] = []  # of everything on the stack: the number of values in it, 1 unless it is a tuple
    kept: dict[int, int] = {}
    for number, (operation, argument, _) in enumerate(pickletools.genops(file), start=1):
        if number > MOST_OPERATIONS:
            raise FrameworkError(f"the pickle makes more than {MOST_OPERATIONS} objects")
        kind = _KINDS[operation.code]
        if kind.name in _PUTS:
            place = len(kept) if argument is None else int(argument)
            if place > number:
                raise FrameworkError(f"the pickle keeps an object under the number {place} and has made only {number}")
            kept[place] = _last(sizes)
        elif kind.name in _GETS:
            sizes.append(_last(sizes) if argument is None else kept.get(int(argument), 1))
        elif kind.takes or kind.to_mark:
            _take(sizes, kind)
        else:
            sizes += kind.leaves


def _take(sizes: list[int], kind: _Kind) -> None:
    """Replace the values that an operation takes by those it leaves."""
    if kind.to_mark:
        at = len(sizes) - 1
        while at >= 0 and sizes[at] != _MARK:
            at -= 1
        taken, begin = sizes[at + 1 :], at - kind.takes
    else:
        begin = len(sizes) - kind.takes
        taken = sizes[max(begin, 0) :]
    if begin < 0:
        raise ValueError("it takes more than it has made")
    del sizes[begin:]
    if kind.keys is not None and max(taken[kind.keys], default=0) > MOST_IN_A_KEY:
        raise FrameworkError(f"the pickle has a key of more than {MOST_IN_A_KEY} values, which no weights have")
    sizes += [min(1 + sum(taken), MOST_IN_A_KEY + 1)] if kind.name in _TUPLES else kind.leaves


def _last(sizes: list[int]) -> int:
    if not sizes or sizes[-1] == _MARK:
        raise ValueError("it keeps an object that it has not made")
    return sizes[-1]
