"""Reads bytes that others may have written: one rule for every file that comes from elsewhere.

A downloaded checkpoint, a run folder from a colleague, public weights: whoever wrote them decides what they say, so

* only regular files are opened (a named pipe would wait for ever, a device never ends);
* sizes and counts are compared with the file before memory is taken for them;
* JSON is of bounded depth, with finite numbers of bounded length and text that can be written again;
* whatever else a decoder raises becomes a `FrameworkError` that names the file.

A `FileNotFoundError` stays one: that a file is not there is often an answer, and the caller knows what to say.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeGuard

from framework.utils.errors import FrameworkError

MOST_JSON_BYTES = 256 << 20
"""Size of the largest JSON file: the manifest of a checkpoint with a million slices has about half."""
MOST_DEPTH = 64
"""Largest number of containers within each other in JSON."""
MOST_ELEMENTS = 1 << 48
"""Largest number of elements of an array: no machine holds as many."""
MOST_AXES = 32
"""Largest number of dimensions of an array."""
_MOST_DIGITS = 40
"""Largest number of digits of an integer: the states of random generators have 128 bits."""
_MOST_QUOTED = 300
"""Number of characters of a decoder's own message that are repeated in an error."""


@contextlib.contextmanager
def decoding(source: object, *, error: type[FrameworkError] = FrameworkError) -> Iterator[None]:
    """Turn whatever a decoder raises into `error`, which names `source`; a `FrameworkError` passes as it is.

    Use it around calls of decoders only: around our own code it would hide mistakes.
    """
    try:
        yield
    except FrameworkError:
        raise
    except RecursionError:
        raise error(f"{source} is nested too deeply: it is damaged, or was made to do harm") from None
    except MemoryError:
        raise error(f"{source} asks for more memory than there is: it is damaged, or was made to do harm") from None
    except Exception as cause:  # decoders pass on whatever damaged bytes provoke
        reason = str(cause).splitlines()[0][:_MOST_QUOTED] if str(cause) else "no reason given"
        raise error(f"{source} cannot be read: it is damaged ({type(cause).__name__}: {reason})") from cause


def open_descriptor(path: Path, *, error: type[FrameworkError] = FrameworkError) -> int:
    """Open a file as `open_regular` does, and return its descriptor, which the caller closes.

    Raises:
        OSError, FrameworkError: see `open_regular`.
    """
    try:
        # Without O_NONBLOCK the open itself would wait for a named pipe's other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as cause:  # NUL, or text that is no file name
        raise error(f"{str(path)!r} cannot be the name of a file ({cause})") from None
    except OSError as cause:
        if cause.errno not in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.ENOTDIR):
            raise
        raise error(f"{str(path)[:_MOST_QUOTED]} cannot be opened ({cause.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error(f"{path} is not a regular file (a folder, a named pipe or a device): put the file itself there")
    return descriptor


def open_regular(path: Path, *, error: type[FrameworkError] = FrameworkError) -> BufferedReader:
    """Open a file for reading, and return it; links are followed.

    Raises:
        OSError: there is none, or it may not be read.
        FrameworkError: it is a folder, a named pipe, a device or a socket, or has an impossible name.
    """
    return os.fdopen(open_descriptor(path, error=error), "rb")


def read_file(path: Path, *, most_bytes: int, error: type[FrameworkError] = FrameworkError) -> bytes:
    """Return the content of a regular file of at most `most_bytes`.

    Raises:
        OSError: see `open_regular`.
        FrameworkError: see `open_regular`, or it is larger.
    """
    with open_regular(path, error=error) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size) if size <= most_bytes else b""  # what is appended meanwhile is not read
    if size > most_bytes:
        raise error(f"{path} has {size} bytes, more than the {most_bytes} that a file of its kind may have")
    return content


def read_json(path: Path, *, most_bytes: int = MOST_JSON_BYTES, error: type[FrameworkError] = FrameworkError) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: see `open_regular`.
        FrameworkError: see `read_file` and `parse_json`; names the file.
    """
    return parse_json(read_file(path, most_bytes=most_bytes, error=error), source=path, error=error)


def read_object(
    path: Path, *, most_bytes: int = MOST_JSON_BYTES, error: type[FrameworkError] = FrameworkError
) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        OSError, FrameworkError: see `read_json`, or it holds something else than an object.
    """
    content = read_json(path, most_bytes=most_bytes, error=error)
    if not isinstance(content, dict):
        raise error(f"{path} is damaged: it must hold a JSON object, not {_kind(content)}")
    return content


def parse_json(
    text: bytes | str, *, source: object, finite: bool = True, error: type[FrameworkError] = FrameworkError
) -> Any:
    """Return the value in a JSON text.

    Args:
        text: the text; bytes are UTF-8.
        source: name of the text in messages.
        finite: refuse NaN and infinity, which are no JSON, and numbers too large for a float.
        error: class of the error to raise.

    Raises:
        FrameworkError: it is no JSON, nested too deeply, or holds a number or a text that could not be written again.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        content = _decode(decoded, finite=finite)
    except RecursionError:
        raise error(f"{source} is damaged: it is not valid JSON: it is nested too deeply") from None
    except ValueError as cause:  # bad JSON, bad UTF-8, and numbers out of range
        raise error(f"{source} is damaged: it is not valid JSON ({str(cause)[:_MOST_QUOTED]})") from None
    # Only a text with many brackets, or with an escape, can break the rule on depth or on characters.
    if decoded.count("[") + decoded.count("{") > MOST_DEPTH or "\\u" in decoded:
        _check(content, source=source, error=error)
    return content


def element_count(shape: object, *, source: object, error: type[FrameworkError] = FrameworkError) -> int:
    """Return the number of elements of an array of this shape.

    Raises:
        FrameworkError: the shape is no list or tuple of counts, or no machine could hold such an array.
    """
    sizes = list(shape) if isinstance(shape, list | tuple) else None
    if sizes is None or len(sizes) > MOST_AXES or not all(type(size) is int and size >= 0 for size in sizes):
        raise error(f"{source}: {_short(shape)} is not the shape of an array")
    # This holds for empty arrays, too: libraries multiply all lengths before they look for a zero.
    if math.prod(max(size, 1) for size in sizes) > MOST_ELEMENTS:
        raise error(f"{source}: an array of shape {_short(shape)} cannot be held by any machine")
    return math.prod(sizes)


def is_count(value: object, *, most: int = (1 << 53)) -> bool:
    """Return whether a value is an integer from 0 to `most`; numbers beyond 2^53 are not exact everywhere.

    True and False are no integers here.
    """
    return type(value) is int and 0 <= value <= most


def is_texts(value: object) -> TypeGuard[Mapping[str, str]]:
    """Return whether a value is a mapping of texts to texts."""
    return isinstance(value, Mapping) and all(isinstance(each, str) for pair in value.items() for each in pair)


def _decode(text: str, *, finite: bool) -> Any:
    return json.loads(text, parse_constant=_refuse if finite else float, parse_int=_integer,
                      parse_float=_finite if finite else float)  # fmt: skip


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:_MOST_DIGITS]} is too large for a number")
    return value


def _check(content: Any, *, source: object, error: type[FrameworkError]) -> None:
    """Refuse containers deeper than `MOST_DEPTH` and halves of surrogate pairs, which cannot be written or shown."""
    waiting: list[tuple[int, Iterable[Any]]] = [(0, [content])]
    while waiting:
        depth, values = waiting.pop()
        if depth > MOST_DEPTH:
            raise error(f"{source} is damaged: it is not valid JSON: it is nested more than {MOST_DEPTH} deep")
        for value in values:
            if isinstance(value, str):
                _check_text(value, source=source, error=error)
            elif isinstance(value, dict):
                for key in value:
                    _check_text(key, source=source, error=error)
                waiting.append((depth + 1, value.values()))
            elif isinstance(value, list):
                waiting.append((depth + 1, value))


def _check_text(text: str, *, source: object, error: type[FrameworkError]) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise error(f"{source} is damaged: it is not valid JSON: {text[:20]!a} is half a character") from None


def _kind(content: object) -> str:
    return {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(content), "a number")


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, list | tuple) and len(value) <= MOST_AXES else f"a {type(value).__name__}"
    return text[:_MOST_QUOTED]
