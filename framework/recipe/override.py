"""Changes one leaf of a recipe for `--set path=value`; the field decides the type.

`generator.optimizer.lr=2e-4`, `generator.network.width=32`, `game.discriminator_terms.0.weight=5`. An unknown path or
a value of the wrong type is an error that names the nearest field.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from framework.recipe.recipe import Network, Recipe
from framework.utils.errors import FrameworkError
from framework.utils.quantities import parse_count
from framework.utils.suggest import nearest


class OverrideError(FrameworkError):
    """A `--set` names no field, or gives it a value of the wrong type."""


def apply(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """Return the recipe with every `path=value` applied in order.

    Raises:
        OverrideError: there is no such path, or a value does not parse as the field's type or cannot work.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise OverrideError(f"--set {assignment}: write it as path=value, for example generator.optimizer.lr=2e-4")
        context = Context(root=recipe, path=path.strip())
        try:
            recipe = _replaced(recipe, context.path.split("."), text.strip(), context)
        except OverrideError:
            raise
        except FrameworkError as error:  # of a dataclass that does not know where in the recipe it stands
            raise OverrideError(f"--set {context.path}={text.strip()}: {error}") from None
    return recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """The recipe and the path of an assignment, for its error messages."""

    root: Recipe
    path: str

    def unknown(self, name: str, owner: str, choices: Iterable[str]) -> OverrideError:
        """Return the error for a name that is not a field of its owner."""
        near = nearest(self.path, [p for p, _ in settable(self.root)]) or nearest(name, choices)
        choices = ", ".join(sorted(choices)) or "nothing"
        return OverrideError(f"--set {self.path}: {owner} has no field {name!r}{near}. It has: {choices}")


def settable(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every path that `--set` accepts, with its present value."""
    if isinstance(value, Network):
        names = Network.parameters_of(value.cls)
        given = {n: p.default for n, p in names.items() if p.default is not p.empty} | dict(value.options)
        children: Iterable[tuple[str, Any]] = [(n, given.get(n)) for n in names]  # None: the data decides
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        children = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        children = [(str(name), held) for name, held in value.items()]
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(v) for v in value):
        children = [(str(i), v) for i, v in enumerate(value)]
    else:
        yield prefix, value
        return
    for name, child in children:
        yield from settable(child, f"{prefix}.{name}" if prefix else name)


def _replaced(value: Any, path: list[str], text: str, context: Context) -> Any:
    """Return a copy of a network, a tuple or a dataclass in which the leaf at `path` is what `text` says."""
    name, rest = path[0], path[1:]
    if isinstance(value, Network):
        parameters = Network.parameters_of(value.cls)
        if name not in parameters or rest:
            raise context.unknown(".".join(path), value.cls.__name__, parameters)
        parsed = parse(text, _annotation(value.cls, name), context.path)
        return Network(value.cls, **{**value.options, name: parsed})
    if isinstance(value, Mapping) and not dataclasses.is_dataclass(value):
        if name not in value:
            raise context.unknown(name, "a mapping", value)
        return {**value, name: _child(value[name], None, rest, text, context)}
    if isinstance(value, tuple):
        if not name.isdigit() or int(name) >= len(value):
            raise context.unknown(name, f"a tuple of {len(value)}", [str(i) for i in range(len(value))])
        changed = _child(value[int(name)], None, rest, text, context)
        return (*value[: int(name)], changed, *value[int(name) + 1 :])
    names = [f.name for f in dataclasses.fields(value)]
    if name not in names:
        raise context.unknown(name, type(value).__name__, names)
    annotation = typing.get_type_hints(type(value))[name]
    # What other fields decide is decided anew.
    anew = {f.name: f.default for f in dataclasses.fields(value) if f.metadata.get("implied") and value.fields}
    return dataclasses.replace(value, **anew | {name: _child(getattr(value, name), annotation, rest, text, context)})


def _child(value: Any, annotation: Any, rest: list[str], text: str, context: Context) -> Any:
    branch = isinstance(value, Network | Mapping) or dataclasses.is_dataclass(value)
    branch = branch or (isinstance(value, tuple) and any(dataclasses.is_dataclass(v) for v in value))
    if rest and branch:
        return _replaced(value, rest, text, context)
    if rest:
        raise context.unknown(rest[0], f"the value {value!r}", [])
    if branch:
        leaves = ", ".join(f"{context.path}.{path}" for path, _ in settable(value))
        fields = f"set one of its fields: {leaves}" if leaves else "which has no fields to set"
        what = f"that is a {type(value).__name__}, {fields}"
        raise OverrideError(f"--set {context.path}: {what}; another one is chosen in the recipe file")
    return parse(text, annotation if annotation is not None else type(value), context.path)


def _annotation(cls: type, name: str) -> Any:
    hints = typing.get_type_hints(inspect.getattr_static(cls, "__init__"))
    default = inspect.signature(cls).parameters[name].default
    return hints.get(name, type(default) if default is not inspect.Parameter.empty else str)


def parse(text: str, annotation: Any, path: str) -> Any:
    """Return the value that `text` stands for as a field of type `annotation`.

    Raises:
        OverrideError: the text does not parse; names the path, the type and the text.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    try:
        if annotation is bool:
            return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[text.lower()]
        if annotation is int:
            return parse_count(text)
        if annotation is float:
            return finite(text)
        if annotation is str or annotation is Any:
            return text
        if origin is Literal:
            if text not in map(str, arguments):
                raise ValueError(text)
            return next(a for a in arguments if str(a) == text)
        if origin in (Union, types.UnionType):
            return _parse_union(text, arguments, path)
        if origin is tuple:
            parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
            kinds = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else list(arguments)
            if len(kinds) != len(parts):
                raise ValueError(text)
            return tuple(parse(part.strip(), kind, path) for part, kind in zip(parts, kinds, strict=True))
    except (ValueError, KeyError):
        raise OverrideError(f"--set {path}: expects {_type_name(annotation)}, got {text!r}") from None
    raise OverrideError(
        f"--set {path}: a field of type {_type_name(annotation)} is set in the recipe file, not by a flag"
    )


def finite(text: str) -> float:
    """Parse a finite number.

    Raises:
        ValueError: the text is not a number, or it is infinity or NaN.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _parse_union(text: str, members: tuple[Any, ...], path: str) -> Any:
    if type(None) in members and text.lower() in ("none", "null"):
        return None
    for member in members:
        if member is type(None):
            continue
        try:
            return parse(text, member, path)
        except OverrideError:
            continue  # the next member of the union may accept it
    raise ValueError(text)


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
