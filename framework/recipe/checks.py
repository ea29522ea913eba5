"""Checks the fields of a dataclass against their declared types when it is made, so that a mistake names its field.

The types are those that recipes are made of: numbers, strings, literals, tuples, unions, classes, and protocols, of
which a value must have every public name.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from framework.utils.errors import RecipeError
from framework.utils.ranges import check_numbers

OPERATIONAL = {"science": False}
"""Metadata of a field that may differ when a run is resumed; the field does not enter the science hash."""

ADDED_LATER = {"added_later": True}
"""Metadata of a field that recipes were hashed without: while it holds its default it does not enter the hash.

An option of a network says so in its annotation, `Annotated[bool, ADDED_LATER]`; what the data decides of such options
does not enter either."""


def require(condition: bool, message: str) -> None:
    """Raise a RecipeError with a message unless the condition holds."""
    if not condition:
        raise RecipeError(message)


def check_fields(value: Any) -> None:
    """Compare every field of a dataclass instance with its annotation, types and numbers; for its `__post_init__`.

    Raises:
        RecipeError: a field holds something else; names the class, the field, what it holds and what is expected.
        FrameworkError: a number is outside its `Range`, or not finite; names the class and the field.
    """
    cls: type = type(value)
    for name, annotation in _annotations(cls).items():
        held = getattr(value, name)
        if not accepts(held, annotation):
            raise RecipeError(f"{cls.__name__}: {name}={_shown(held)} {_advice(held, annotation)}")
    check_numbers(value)


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def accepts(value: Any, annotation: Any) -> bool:
    """Return whether `value` is what `annotation` says; an int is a float, a bool is not a number."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if annotation is None:
        return value is None
    if origin in (Union, types.UnionType):
        return any(accepts(value, member) for member in arguments)
    if origin is Literal:
        return any(value == literal and type(value) is type(literal) for literal in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and _are(value, arguments)
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    if _is_protocol(annotation):
        return not isinstance(value, type) and not missing(value, annotation)
    return isinstance(value, origin or annotation)


def _are(values: tuple[Any, ...], arguments: tuple[Any, ...]) -> bool:
    if arguments[-1] is Ellipsis:
        return all(accepts(value, arguments[0]) for value in values)
    return len(values) == len(arguments) and all(map(accepts, values, arguments))


def missing(value: Any, protocol: type) -> list[str]:
    """Return the public names of a protocol that `value` lacks."""
    return [name for name in members(protocol) if not hasattr(value, name)]


def members(protocol: type) -> list[str]:
    """Return the public attributes and methods that a protocol asks for, in the order they are written."""
    own = [base for base in reversed(protocol.__mro__) if _is_protocol(base)]
    named = {name: None for base in own for name in (*inspect.get_annotations(base), *vars(base))}
    return [name for name in named if not name.startswith("_")]


def _is_protocol(annotation: Any) -> bool:
    return getattr(annotation, "_is_protocol", False) and annotation is not typing.Protocol


def _advice(value: Any, annotation: Any) -> str:
    """Return what is wrong with a value, and what to write instead."""
    if isinstance(value, type) and any(_makes(value, part) for part in _parts(annotation)):
        return f"is a class: give an instance of it, {value.__name__}(...)"
    if isinstance(value, list) and any(get_origin(part) is tuple for part in _parts(annotation)):
        return "is a list: write a tuple, (...,)"
    asked = [part for part in _parts(annotation) if _is_protocol(part)]
    if asked:
        lacking = ", ".join(f"`{name}`" for name in missing(value, asked[0]))
        return f"is no {asked[0].__module__}.{asked[0].__name__}: it lacks {lacking}"
    return f"must be {expected(annotation)}"


def _makes(cls: type, annotation: Any) -> bool:
    """Return whether instances of a class may be what is asked for."""
    if _is_protocol(annotation):
        return not missing(cls, annotation)
    return isinstance(annotation, type) and issubclass(cls, annotation)


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, or the annotation itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        yield from get_args(annotation)
    else:
        yield annotation


def expected(annotation: Any) -> str:
    """Put an annotation into words, such as `a number, or None`."""
    words = {int: "a whole number", float: "a number", str: "a string", bool: "True or False", type(None): "None"}
    described = []
    for part in _parts(annotation):
        if get_origin(part) is Literal:
            described.append(f"one of {', '.join(map(repr, get_args(part)))}")
        elif get_origin(part) is tuple:
            kinds = get_args(part)
            many = kinds[-1] is Ellipsis
            inside = expected(kinds[0]) if many else ", ".join(map(expected, kinds))
            described.append(f"a tuple, each entry of it {inside}" if many else f"a tuple of ({inside})")
        elif part in words:
            described.append(words[part])
        else:
            described.append(f"of type {getattr(part, '__name__', part)}")
    return ", or ".join(described)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"<{type(value).__name__}>"
