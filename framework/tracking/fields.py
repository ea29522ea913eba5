"""The fields that each kind of journal line must have, and their types, so that readers can rely on them.

Fields that only some readers use and check for themselves are not listed, nor are kinds of later versions: such records
pass. A record that lacks a field, or has one of another type, is as unreadable as a line that is no JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from framework.utils.bounded import is_count

_UID = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, the last that calendars know; in milliseconds since 1970."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_uid(value: object) -> bool:
    """Return whether a value can stand in a query to the store."""
    return isinstance(value, str) and _UID.fullmatch(value) is not None


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_address(value: object) -> bool:
    return value is None or isinstance(value, str)


def _are_numbers(value: object) -> bool:
    return isinstance(value, Mapping) and all(type(each) in (int, float) for each in value.values())


def _are_plain(value: object) -> bool:
    return isinstance(value, Mapping) and not any(isinstance(each, list | Mapping) for each in value.values())


_REQUIRED: dict[str, dict[str, Callable[[object], bool]]] = {
    "start": {"uid": _is_uid, "uri": _is_address},
    "metrics": {"images": is_count, "values": _are_numbers},
    "params": {"values": _are_plain},
    "tags": {"values": _are_plain},
    "image": {"key": _is_text, "images": is_count, "file": _is_text},
    "media": {"key": _is_text, "images": is_count, "file": _is_text, "form": _is_text},
    "artifact": {"file": _is_text, "folder": _is_text},
    "dataset": {"name": _is_text, "digest": _is_text},
    "evaluation": {"images": is_count, "records": _is_object},
    "health": {"sentinel": _is_text, "state": _is_text},
    "resumed": {"images": is_count},
    "rollback": {"images": is_count, "from_images": is_count},
    "dropped": {"count": is_count, "total": is_count},
    "end": {"status": _is_text},
}

_OPTIONAL = dict.fromkeys(
    ("experiment", "run_name", "user", "command", "location", "form", "description"), _is_text
) | dict.fromkeys(("nonfinite", "profile"), _is_object)


def is_record(value: object) -> bool:
    """Return whether a decoded line is a record that readers can take as it is."""
    if not isinstance(value, Mapping) or not isinstance(kind := value.get("kind"), str):
        return False
    fields: Mapping[str, Any] = _REQUIRED.get(kind, {})
    return (
        is_count(value.get("time_ms"), most=_LATEST_MS)
        and all(name in value and holds(value[name]) for name, holds in fields.items())
        and all(holds(value[name]) for name, holds in _OPTIONAL.items() if name in value)
    )
