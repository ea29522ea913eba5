"""Imports network classes from files that the user names: `--network my_recipe.py:Generator`.

A checkpoint names classes, and nothing is imported for it; only what a person names on the command line is.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from framework.utils.errors import FrameworkError
from framework.utils.importing import named_in_file
from framework.utils.suggest import nearest


def network_classes(places: Iterable[str]) -> dict[str, type[nn.Module]]:
    """Return the classes at `FILE.py:CLASS`, by class name.

    The files are run as imported modules, not as programs: a recipe file does not train.

    Raises:
        FrameworkError: there is no such file or class, a file cannot be imported, or two classes have one name.
    """
    found: dict[str, type[nn.Module]] = {}
    for place in places:
        example = "FILE.py:CLASS, for example my_recipe.py:Generator"
        module, name = named_in_file(place, flag="--network", example=example)
        classes = {n: c for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, nn.Module)}
        if name not in classes:
            has, file = ", ".join(sorted(classes)) or "none", place.rpartition(":")[0]
            raise FrameworkError(
                f"--network {place}: {file} has no network class {name!r}{nearest(name, classes)}. It has: {has}"
            )
        if found.setdefault(name, classes[name]) is not classes[name]:
            raise FrameworkError(f"--network {place}: another class {name} was given too; name one of them only")
    return found
