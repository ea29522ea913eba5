"""What `import framework` offers a recipe's author: every part a recipe can hold, and nothing that is not there."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import framework

# Where the parts of a recipe are defined.
ROOMS = ("objectives", "augment")
FILES = (
    *("recipe.recipe", "recipe.sources", "recipe.growth", "recipe.optimizers", "recipe.schedules", "games.alternating"),
    *("data.fields", "data.points", "data.computed", "data.curves", "data.derived", "data.stacked"),
)
# Dataclasses of those places that the framework makes itself and a recipe never writes.
MADE_INSIDE = {"Segment", "Chance"}


def parts_of_recipes() -> Iterator[str]:
    """Yield the names of the public dataclasses that may stand in a recipe."""
    names = [f"framework.{file}" for file in FILES]
    for room in ROOMS:
        package = importlib.import_module(f"framework.{room}")
        names += [module.name for module in pkgutil.iter_modules(package.__path__, f"framework.{room}.")]
    for name in names:
        for cls in vars(importlib.import_module(name)).values():
            own = inspect.isclass(cls) and cls.__module__ == name and not cls.__name__.startswith("_")
            if own and dataclasses.is_dataclass(cls) and not inspect.isabstract(cls):
                yield cls.__name__


def test_every_part_of_a_recipe_is_offered() -> None:
    expected = set(parts_of_recipes()) - MADE_INSIDE
    assert {"Dragan", "MaxGradientPenalty", "Hinge", "Ada", "Adam", "Ramp", "Phase", "Shards"} <= expected
    assert sorted(expected - set(framework.__all__)) == []


def test_what_a_launch_advises_is_offered() -> None:
    """The replacements for layers of torch that a launch refuses, the bases to write one's own, and the errors."""
    layers = {"BatchNorm2d", "ConditionalBatchNorm2d", "Dropout", "MovingMean", "spectral_norm", "Draw"}
    bases = {
        "AdversarialLoss",
        "Augmentation",
        "Computed",
        "DerivedField",
        "Field",
        "Game",
        "Optimizer",
        "Penalty",
        "Schedule",
    }
    assert layers | bases | {"FrameworkError", "RecipeError"} <= set(framework.__all__)


def test_every_name_is_there_and_listed() -> None:
    missing = [name for name in framework.__all__ if getattr(framework, name, None) is None]
    assert missing == []
    assert framework.Dragan.__module__ == "framework.objectives.lipschitz"


def test_dir_lists_every_name_without_loading_torch() -> None:
    program = (
        "import sys, framework\n"
        "assert set(framework.__all__) <= set(dir(framework)), set(framework.__all__) - set(dir(framework))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
