"""Renamed classes, fields and options: old descriptions are understood, and the science hash stays."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from framework import Adam, Alternating, Averaging, Hinge, Network, Player, Recipe, Shards
from framework.networks import sagan
from framework.recipe.description import describe, differences, network_from, science, science_hash
from framework.utils import aliases
from framework.utils.aliases import first, first_class_name, todays

PACKAGE = Path(aliases.__file__).parents[1]
GENERATOR, FORMER_GENERATOR = "framework.networks.sagan.Generator", "framework.networks.attention_gan.Maker"
CLASSES = {
    "MovingMean": "Averaging",
    "Smoothing": "Averaging",
    "Rules": "Alternating",
    FORMER_GENERATOR: GENERATOR,
}
FIELDS = {
    "Averaging": {"half": "half_life_images", "half_life": "half_life_images"},
    "Recipe": {"smoothing": "averaging"},
    GENERATOR: {"features": "width"},
}
"""As if today's names had been reached by renamings."""

RECIPE = Recipe(
    name="renamed",
    paper="none: a test",
    data=Shards(location="nowhere", resolution=32, channels=1, classes=10),
    generator=Player(network=Network(sagan.Generator, width=2, z_dim=8), optimizer=Adam(lr=1e-3)),
    discriminator=Player(network=Network(sagan.Discriminator, width=4), optimizer=Adam(lr=1e-3)),
    game=Alternating(loss=Hinge()),
    averaging=Averaging(half_life_images=50),
    batch_size=8,
    images=64,
)


@pytest.fixture
def former() -> Any:
    """What the first version wrote of `RECIPE`."""
    document: Any = describe(RECIPE)
    document["smoothing"] = {
        {"half_life_images": "half"}.get(name, name): value for name, value in document.pop("averaging").items()
    } | {"type": "MovingMean"}
    document["game"]["type"] = "Rules"
    network = document["generator"]["network"]
    network["class"] = FORMER_GENERATOR
    network["options"]["features"] = network["options"].pop("width")
    return document


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "CLASSES", CLASSES)
    monkeypatch.setattr(aliases, "FIELDS", FIELDS)


@pytest.mark.usefixtures("renamed")
def test_a_former_description_is_read_as_todays(former: Any) -> None:
    assert former != describe(RECIPE)
    assert differences(todays(former), describe(RECIPE)) == []


@pytest.mark.usefixtures("renamed")
def test_every_former_name_is_understood(former: Any) -> None:
    former["smoothing"] |= {"type": "Smoothing", "half_life": former["smoothing"].pop("half")}
    assert todays(former) == describe(RECIPE)


@pytest.mark.usefixtures("renamed")
def test_the_first_names_are_restored(former: Any) -> None:
    assert first(describe(RECIPE)) == former
    assert first_class_name("Averaging") == "MovingMean"
    assert first_class_name("Hinge") == "Hinge"


def test_a_renaming_leaves_the_science_hash_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the class under another name in today's code, and the row that says so."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Rules(Alternating):
        pass

    renamed = dataclasses.replace(RECIPE, game=Rules(loss=Hinge()))
    assert science_hash(renamed) != science_hash(RECIPE)
    monkeypatch.setattr(aliases, "CLASSES", {"Alternating": "Rules"})
    assert science(renamed)["game"]["type"] == "Rules"
    assert science_hash(renamed) == science_hash(RECIPE)


@pytest.mark.usefixtures("renamed")
def test_a_network_is_built_from_its_former_description(former: Any) -> None:
    network = network_from(former["generator"]["network"])
    assert type(network) is sagan.Generator
    assert network.z_dim == 8
    want = RECIPE.generator.build(RECIPE.data.derived()).state_dict()
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in want.items()
    }


def test_without_rows_a_document_is_as_it_was() -> None:
    document = {"type": "Recipe", "a": [{"class": "x.Y", "options": {"type": "z", "b": [1, None]}}], "options": 3}
    assert todays(document) == document
    assert first(document) == document


def faults(classes: Mapping[str, str], fields: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What is wrong with the rows of a table."""
    wrong = [f"{name}: no class of today" for name in {*classes.values(), *fields} if _class(name) is None]
    wrong += [f"{name}: a former name that a class of today has" for name in classes if _class(name) is not None]
    for name, rows in fields.items():
        known = _fields(_class(name))
        wrong += [f"{name}.{today}: no field of today" for today in rows.values() if today not in known]
        wrong += [f"{name}.{field}: a former name that a field of today has" for field in rows if field in known]
    return sorted(wrong)


def _class(name: str) -> type | None:
    """A network by its dotted name, or the part of a recipe (a frozen dataclass) that has the bare name."""
    module, _, short = name.rpartition(".")
    if module:
        try:
            return getattr(importlib.import_module(module), short, None)
        except ModuleNotFoundError:
            return None
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.ClassDef)
                and node.name == name
                and "frozen=True" in map(_kept, node.decorator_list)
            ):
                dotted = ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts))
                return getattr(importlib.import_module(dotted), name)
    return None


def _kept(decorator: ast.expr) -> str:
    return "frozen=True" if "frozen=True" in ast.unparse(decorator) else ""


def _fields(cls: type | None) -> set[str]:
    if cls is None:
        return set()
    if dataclasses.is_dataclass(cls):
        return {field.name for field in dataclasses.fields(cls)}
    return set(inspect.signature(cls).parameters)


def test_the_rows_lead_from_former_names_to_names_of_today() -> None:
    assert faults(aliases.CLASSES, aliases.FIELDS) == []


def test_wrong_rows_are_found() -> None:
    assert faults(CLASSES, FIELDS) == []
    assert faults({"Averaging": "Alternating", "Old": "New"}, {"Averaging": {"half_life_images": "half"}}) == [
        "Averaging.half: no field of today",
        "Averaging.half_life_images: a former name that a field of today has",
        "Averaging: a former name that a class of today has",
        "New: no class of today",
    ]
