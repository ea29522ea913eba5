"""Names that recipes and checkpoints of earlier versions hold, and what the same things are called today.

A description on disk (`recipe.json`, `science.json`) names the classes of a recipe's parts (`"type"`), the classes of
networks with their modules (`"class"`), and fields and options. Whoever renames or moves one of them adds a row here
and changes nothing else: descriptions are translated as they are read (`todays`), and the science hash is taken over
the names that things were first written under (`first`), so that it is the same before and after.

A class that is renamed again keeps one row for each of its former names, the oldest first, all of them with the name
of today. A former name is not free: nothing else that a recipe holds may take it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Json = Any

CLASSES: Mapping[str, str] = {}
"""Today's name of a class by its former one: `"Old": "New"` for a part of a recipe, and for a network with its module,
`"framework.networks.old.Generator": "framework.networks.new.Generator"`."""

FIELDS: Mapping[str, Mapping[str, str]] = {}
"""Today's name of a field (for a network: option) by its former one, for each class under its name of today."""


def todays(document: Json) -> Json:
    """Return a copy of a JSON document in which descriptions have today's names; everything else is as it was."""
    return _translated(
        document,
        class_name=lambda name: CLASSES.get(name, name),
        fields_of=lambda name: FIELDS.get(CLASSES.get(name, name), {}),
    )


def first(document: Json) -> Json:
    """Return a copy of a JSON document with today's names, in which descriptions have those of the first version."""
    return _translated(
        document,
        class_name=first_class_name,
        fields_of=lambda name: {today: former for former, today in reversed([*FIELDS.get(name, {}).items()])},
    )


def first_class_name(name: str) -> str:
    """Return the name under which today's class `name` was first written; its own if it was never renamed."""
    return next((former for former, today in CLASSES.items() if today == name), name)


def _translated(
    value: Json, *, class_name: Callable[[str], str], fields_of: Callable[[str], Mapping[str, str]]
) -> Json:
    if isinstance(value, list):
        return [_translated(held, class_name=class_name, fields_of=fields_of) for held in value]
    if not isinstance(value, Mapping):
        return value
    inside = {key: _translated(held, class_name=class_name, fields_of=fields_of) for key, held in value.items()}
    for kind in ("type", "class"):
        if isinstance(name := value.get(kind), str):
            fields = fields_of(name)
            if kind == "type":
                inside = {fields.get(key, key): held for key, held in inside.items()}
            elif isinstance(options := inside.get("options"), Mapping):
                inside["options"] = {fields.get(key, key): held for key, held in options.items()}
            inside[kind] = class_name(name)
    return inside
