"""Recipes for benchmarks, loaded from their files."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from framework.recipe import Recipe

FOLDER = Path(__file__).parents[1] / "recipes"


def load_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of `recipes/<name>.py` with some fields replaced."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dataclasses.replace(module.RECIPE, **changes)
