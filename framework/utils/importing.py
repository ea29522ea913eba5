"""Imports files that the user names on the command line: `--network my_recipe.py:Generator`.

They are run as imported modules, not as programs: a recipe file does not train.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from framework.utils.errors import FrameworkError


def named_in_file(place: str, *, flag: str, example: str) -> tuple[ModuleType, str]:
    """Import the file of `FILE.py:NAME`, once, and return its module and the name.

    Args:
        place: file and name, as the user wrote them.
        flag: the flag that holds them, for messages.
        example: such a place, for messages.

    Raises:
        FrameworkError: the place is written otherwise, there is no such file, or it cannot be imported.
    """
    file, colon, name = place.rpartition(":")
    if not (colon and name.isidentifier() and file.endswith(".py")):
        raise FrameworkError(f"{flag} {place}: write it as {example}")
    if not Path(file).is_file():
        raise FrameworkError(f"{flag} {place}: there is no file {Path(file).absolute()}")
    return _module(Path(file).resolve(), f"{flag} {place}"), name


def _module(file: Path, asked: str) -> ModuleType:
    """Import the module in a file, once; `asked` is the flag and its value, for messages."""
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
        raise FrameworkError(f"{asked}: importing {file} fails: {type(error).__name__}: {error}{hint}") from error
    finally:
        sys.path.remove(str(file.parent))
    return module
