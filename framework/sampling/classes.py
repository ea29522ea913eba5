"""Imports network classes from files that the user names: `--network my_recipe.py:Generator`.

A checkpoint names classes, and nothing is imported for it; only what a person names on the command line is.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from torch import nn

from framework.utils.errors import FrameworkError
from framework.utils.suggest import nearest


def network_classes(places: Iterable[str]) -> dict[str, type[nn.Module]]:
    """Return the classes at `FILE.py:CLASS`, by class name.

    The files are run as imported modules, not as programs: a recipe file does not train.

    Raises:
        FrameworkError: there is no such file or class, a file cannot be imported, or two classes have one name.
    """
    found: dict[str, type[nn.Module]] = {}
    for place in places:
        file, colon, name = place.rpartition(":")
        if not (colon and name.isidentifier() and file.endswith(".py")):
            raise FrameworkError(f"--network {place}: write it as FILE.py:CLASS, for example my_recipe.py:Generator")
        if not Path(file).is_file():
            raise FrameworkError(f"--network {place}: there is no file {Path(file).absolute()}")
        module = _module(Path(file).resolve(), place)
        classes = {n: c for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, nn.Module)}
        if name not in classes:
            has = ", ".join(sorted(classes)) or "none"
            raise FrameworkError(
                f"--network {place}: {file} has no network class {name!r}{nearest(name, classes)}. It has: {has}"
            )
        if found.setdefault(name, classes[name]) is not classes[name]:
            raise FrameworkError(f"--network {place}: another class {name} was given too; name one of them only")
    return found


def _module(file: Path, place: str) -> ModuleType:
    """Import the module in a file, once; `place` is for error messages."""
    name = str(file)  # no other module has such a name
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(file.parent))  # as when the file is started: it may import what lies beside it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        hint = '; launch(...) belongs under `if __name__ == "__main__":`' if isinstance(error, SystemExit) else ""
        raise FrameworkError(
            f"--network {place}: importing {file} fails: {type(error).__name__}: {error}{hint}"
        ) from error
    finally:
        sys.path.remove(str(file.parent))
    return module
