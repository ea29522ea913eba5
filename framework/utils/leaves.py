"""Flattens a JSON document to pairs: the dotted path of every value, and the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(document: Any, prefix: str = "", *, lists: bool = True, empty: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of everything that is not a container.

    Args:
        document: mappings, lists and plain values, nested.
        prefix: path of the document itself.
        lists: True where lists are containers; otherwise a list is a value.
        empty: True where an empty container is a value, too; otherwise it is left out.
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
