"""Types of flags that several commands have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

from framework.utils.errors import FrameworkError

_URL_LIKE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/|pipe:")


def local_path(text: str) -> Path:
    """Return the path of a file or folder on this machine.

    `Path("s3://bucket/x")` would be a local folder named `s3:`, which nobody who writes that means.

    Raises:
        FrameworkError: the text is a URL, or looks like one.
    """
    if _URL_LIKE.match(text):
        raise FrameworkError(
            f"{text}: is a URL, and this must be a path on this machine: mount or copy it; a folder of that name is "
            f"./{text}"
        )
    return Path(text)


def _is_path(value: object) -> bool:
    return value is None or isinstance(value, Path)


def _are_paths(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(part, Path) for part in value)


_PATH = PrimitiveConstructorSpec(
    nargs=1,
    metavar="PATH",
    instance_from_str=lambda arguments: local_path(arguments[0]),
    is_instance=_is_path,
    str_from_instance=lambda value: [str(value)],
)
LocalPath = Annotated[Path, _PATH]
"""A path on this machine; URL-like ones are refused."""
OptionalLocalPath = Annotated[Path | None, _PATH]
"""A path on this machine, or None where the flag is not given."""
LocalPaths = Annotated[
    tuple[Path, ...],
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="[PATH ...]",
        instance_from_str=lambda arguments: tuple(map(local_path, arguments)),
        is_instance=_are_paths,
        str_from_instance=lambda value: [str(path) for path in value],
    ),
]
"""Any number of paths on this machine."""
