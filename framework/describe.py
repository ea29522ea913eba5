"""A recipe as stable JSON, its science hash, and the differences between two of them.

The description is for people, MLflow and comparisons; only networks are ever rebuilt from it (`network_from`), and
only classes inside `framework.networks` or ones the caller hands over: a checkpoint cannot make us import code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from framework.bounded import decoding
from framework.budget import Budget
from framework.errors import FrameworkError
from framework.leaves import leaves
from framework.recipe import Network, Recipe

Json = Any


def describe(recipe: Recipe) -> dict[str, Json]:
    """The resolved recipe: every field and every network option, defaults included."""
    return _describe(recipe, recipe.data.derived(), science_only=False)


def describe_network(network: Network) -> dict[str, Json]:
    """What `network_from` builds it from: its class and every option, defaults included."""
    described: dict[str, Json] = _describe(network, {}, science_only=False)
    return described


def science_hash(recipe: Recipe) -> str:
    """SHA-256 over everything that decides the result; fields marked operational do not enter."""
    return _hash(_describe(recipe, recipe.data.derived(), science_only=True))


def science(recipe: Recipe) -> dict[str, Json]:
    """The part of the description under the science hash."""
    return _describe(recipe, recipe.data.derived(), science_only=True)


def dumps(document: Json) -> str:
    """JSON with sorted keys and a final newline, the same bytes for the same content."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def differences(old: Json, new: Json) -> list[str]:
    """Lines such as `generator.optimizer.lr: 0.0001 -> 0.0002`."""
    before, after = dict(leaves(old)), dict(leaves(new))
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    return [f"{path}: {before.get(path, '(absent)')} -> {after.get(path, '(absent)')}" for path in sorted(changed)]


def network_from(
    description: Json, *, budget: Budget | None = None, classes: Mapping[str, type[nn.Module]] | None = None
) -> nn.Module:
    """Build a network from its description.

    Args:
        description: `{"class": dotted name, "options": {...}}` as `describe` writes it.
        budget: what its stored tensors justify; None for a description that is the caller's own.
        classes: classes outside `framework.networks` that may be built, by dotted name.

    Raises:
        FrameworkError: it is no description, the class is not ours and was not handed over, or the options no longer
            fit it or the budget.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("options"), Mapping):
        raise FrameworkError("the network is not described by its class and options")
    name = str(description.get("class"))
    own = name not in (classes or {})
    network = Network(_own_class(name) if own else (classes or {})[name], **description["options"])
    source = f"the description of {name}"
    if own and budget is not None:  # others need not be able to exist without values, and the caller answers for them
        budget.check(network.build, network.options, source=source)
    with decoding(source):
        return network.build()


def _own_class(name: str) -> type[nn.Module]:
    module_name, _, class_name = name.rpartition(".")
    if not module_name.startswith("framework.networks."):
        raise FrameworkError(
            f"the network class {name!r} is not part of framework.networks and checkpoints never import code; "
            f"hand the class over: classes={{{name!r}: {class_name}}}"
        )
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise FrameworkError(f"this version has no network class {name!r} ({error})") from None
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise FrameworkError(f"{name!r} is not a network class")
    return cls


def _describe(value: Any, derived: Mapping[str, Any], *, science_only: bool) -> Json:
    if isinstance(value, Network):
        options = value.resolved(derived)
        return {
            "class": f"{value.cls.__module__}.{value.cls.__qualname__}",
            "options": {name: _describe(v, derived, science_only=science_only) for name, v in options.items()},
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        described: dict[str, Json] = {"type": type(value).__name__}
        for field in dataclasses.fields(value):
            if science_only and not field.metadata.get("science", True):
                continue
            described[field.name] = _describe(getattr(value, field.name), derived, science_only=science_only)
        return described
    if isinstance(value, list | tuple):
        return [_describe(v, derived, science_only=science_only) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _describe(v, derived, science_only=science_only) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise FrameworkError(f"a recipe may hold finite numbers only, not {value}")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise FrameworkError(f"a recipe may hold numbers, strings, tuples and dataclasses, not {type(value).__name__}")


def _hash(document: Json) -> str:
    return hashlib.sha256(json.dumps(_canonical(document), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _canonical(document: Json) -> Json:
    """50 and 50.0 are the same number, so they must be the same text."""
    if isinstance(document, Mapping):
        return {key: _canonical(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_canonical(value) for value in document]
    return int(document) if isinstance(document, float) and document.is_integer() else document
