"""Describes a recipe as stable JSON, hashes it, and lists the differences between two descriptions.

The description is for people, MLflow and comparisons; only networks are ever rebuilt from it (`network_from`), and
only classes inside `framework.networks` or ones the caller hands over: a checkpoint cannot make us import code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import typing
from collections.abc import Mapping
from typing import Any

from torch import nn

from framework.recipe.checks import ADDED_LATER
from framework.recipe.recipe import Network, Recipe
from framework.utils.aliases import first, todays
from framework.utils.bounded import decoding
from framework.utils.budget import Budget
from framework.utils.errors import FrameworkError
from framework.utils.leaves import leaves
from framework.utils.ranges import Range
from framework.utils.redaction import redact_text

Json = Any


def describe(recipe: Recipe) -> dict[str, Json]:
    """Describe the resolved recipe: every field and every network option, defaults included, no secrets of addresses.

    Raises:
        FrameworkError: a field holds a value that JSON cannot; names its path.
    """
    described = _describe(recipe, recipe.data.derived(), science_only=False)
    for source in (described["data"], *described["data"].get("sources", {}).values()):
        for one in (source, source.get("of")):  # the shards of a stacked source are inside it
            if isinstance(one, dict) and "location" in one:
                one["location"] = redact_text(one["location"])
    return described


def describe_network(network: Network) -> dict[str, Json]:
    """Describe a network, for `network_from`: its class and every option, defaults included."""
    described: dict[str, Json] = _describe(network, {}, science_only=False)
    return described


def science_hash(recipe: Recipe) -> str:
    """Return the SHA-256 over everything that decides the result; operational fields and renamings do not enter."""
    return _hash(first(science(recipe)))


def science(recipe: Recipe) -> dict[str, Json]:
    """Return the part of the description that the science hash covers."""
    return _describe(recipe, recipe.data.derived(), science_only=True)


def dumps(document: Json) -> str:
    """Return JSON with sorted keys and a final newline, the same bytes for the same content."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def differences(old: Json, new: Json) -> list[str]:
    """Return a line such as `generator.optimizer.lr: 0.0001 -> 0.0002` for every difference."""
    before, after = dict(leaves(old)), dict(leaves(new))
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    return [f"{path}: {before.get(path, '(absent)')} -> {after.get(path, '(absent)')}" for path in sorted(changed)]


def network_from(
    description: Json, *, budget: Budget | None = None, classes: Mapping[str, type[nn.Module]] | None = None
) -> nn.Module:
    """Build a network from its description, on the current default device.

    Args:
        description: `{"class": dotted name, "options": {...}}` as `describe` writes it.
        budget: the memory that its stored tensors justify; None for a description that is the caller's own.
        classes: classes outside `framework.networks` that may be built, by dotted name, or by class name alone where
            the module may have any name (that of a recipe file is `__main__` while it trains).

    Raises:
        FrameworkError: the description is not one, the class is not ours and was not handed over, or the options no
            longer fit the class or the budget.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("options"), Mapping):
        raise FrameworkError("the network is not described by its class and options")
    description = todays(description)
    name, handed = str(description.get("class")), classes or {}
    theirs = None if _is_own(name) else handed.get(name) or handed.get(name.rpartition(".")[2])
    network = Network(theirs or _own_class(name), **description["options"])
    source = f"the description of {name}"
    # Others' networks are not measured first: they need not be buildable without values, and the caller named them.
    if theirs is None and budget is not None:
        budget.check(network.build, network.options, source=source)
    with decoding(source):
        return network.build()


def _is_own(name: str) -> bool:
    return name.startswith("framework.networks.")


def _own_class(name: str) -> type[nn.Module]:
    module_name, _, short = name.rpartition(".")
    if not _is_own(name):
        file = "RECIPE.py" if module_name == "__main__" else f"{module_name.replace('.', '/')}.py"
        raise FrameworkError(
            f"the network class {name!r} is not part of framework.networks, and a checkpoint alone imports nothing: "
            f"say where it is defined, --network {file}:{short} (in Python: classes={{{name!r}: {short}}})"
        )
    try:
        cls = getattr(importlib.import_module(module_name), short)
    except (ImportError, AttributeError, ValueError) as error:
        raise FrameworkError(f"this version has no network class {name!r} ({error})") from None
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise FrameworkError(f"{name!r} is not a network class")
    return cls


def class_name(cls: type[nn.Module]) -> str:
    """Return the dotted name under which a description holds a network class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _describe(value: Any, derived: Mapping[str, Any], *, science_only: bool, path: str = "") -> Json:
    """Describe the value at a dotted path of the recipe."""

    def inside(name: object, held: Any) -> Json:
        return _describe(held, derived, science_only=science_only, path=f"{path}.{name}" if path else str(name))

    if isinstance(value, Network):
        unused = _unused_options(value, derived) if science_only else set()
        options = {name: v for name, v in value.resolved(derived).items() if name not in unused}
        return {"class": class_name(value.cls), "options": {name: inside(name, v) for name, v in options.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        described: dict[str, Json] = {"type": type(value).__name__}
        for field in dataclasses.fields(value):
            held = getattr(value, field.name)
            if science_only and (not field.metadata.get("science", True) or _is_unused(field, held)):
                continue
            described[field.name] = inside(field.name, held)
        return described
    if isinstance(value, list | tuple):
        return [inside(index, v) for index, v in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(k): inside(k, v) for k, v in value.items()}
    if isinstance(value, int | float) and (reason := Range().refusal(value)):
        raise FrameworkError(f"{path}={value} {reason}")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    what = type(value).__name__
    raise FrameworkError(
        f"{path}: a recipe may hold numbers, strings, tuples and dataclasses, not {what}"
        + ("" if type(value).__module__ == "builtins" else f"; if {what} is yours, make it a frozen dataclass")
    )


def _is_unused(field: dataclasses.Field[Any], held: object) -> bool:
    """Return whether a field was added after recipes had been hashed without it, and holds its default."""
    if not field.metadata.get("added_later", False):
        return False
    default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return held == default


def _unused_options(network: Network, derived: Mapping[str, Any]) -> set[str]:
    """Return the options that were added after recipes had been hashed without them, and hold what decides nothing.

    That is their default, or what the data says: the data is hashed itself.
    """
    try:
        hints = typing.get_type_hints(network.cls.__init__, include_extras=True)
    except NameError:  # an annotation that only a type checker resolves
        return set()
    later = {name for name, hint in hints.items() if ADDED_LATER in getattr(hint, "__metadata__", ())}
    parameters, resolved = network.parameters_of(network.cls), network.resolved(derived)
    return {
        name
        for name in later & set(resolved)
        if resolved[name] in (parameters[name].default, derived.get(name, parameters[name].default))
    }


def _hash(document: Json) -> str:
    return hashlib.sha256(json.dumps(_canonical(document), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _canonical(document: Json) -> Json:
    """Write whole floats as integers: 50 and 50.0 are the same number, so they must be the same text."""
    if isinstance(document, Mapping):
        return {key: _canonical(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_canonical(value) for value in document]
    return int(document) if isinstance(document, float) and document.is_integer() else document
