"""A JSON document as flat pairs: the dotted path of every value, and the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(document: Any, prefix: str = "", *, lists: bool = True, empty: bool = False) -> Iterator[tuple[str, Any]]:
    """The (dotted path, value) of everything that is no container.

    Args:
        lists: False takes a list as a value, whole.
        empty: an empty container is a value, too; otherwise nothing tells of it.
    """
    if isinstance(document, Mapping):
        items: Any = document.items()
    elif isinstance(document, list) and lists:
        items = enumerate(document)
    else:
        yield prefix, document
        return
    if empty and not document:
        yield prefix, document
    for key, value in items:
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key), lists=lists, empty=empty)
