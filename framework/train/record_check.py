"""What a resume takes from a checkpoint's record, by field: its type and its range.

The manifest's own sha256 tells of damage only: whoever writes a checkpoint can sign anything. Fields that are not
listed pass, since a later version may have more; those that older versions did not write may be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from framework.checkpoint import Checkpoint, CheckpointError
from framework.checkpoint.layout import MANIFEST
from framework.utils.bounded import is_count

Holds = Callable[[Any, str], None]
"""Raises `_Wrong` where a value, whose place is given, is not what it must be."""

_WORST_HEALTH = 2
"""The highest value of `framework.sentinels.table.Health`."""
_MOST_QUOTED = 60


class _Wrong(Exception):
    """A field of another type or out of its range."""

    def __init__(self, where: str, value: object, wanted: str) -> None:
        super().__init__(f"{where} is {repr(value)[:_MOST_QUOTED]} and must be {wanted}")


def check_record(checkpoint: Checkpoint, *, players: Iterable[str]) -> None:
    """Compare the record of a checkpoint with what training takes from it.

    Args:
        players: names of the players that it must hold.

    Raises:
        CheckpointError: a field is missing, has another type, or is out of its range; names the file and the field.
    """
    try:
        _RECORD(checkpoint.record, "record")
        _fields(dict.fromkeys(players, _PLAYER))(checkpoint.record["players"], "record.players")
    except _Wrong as wrong:
        raise CheckpointError(
            f"{checkpoint.path / MANIFEST}: {wrong}; training did not write that: use another checkpoint"
        ) from None


def _plain(wanted: str, fits: Callable[[Any], bool]) -> Holds:
    def check(value: Any, where: str) -> None:
        if not fits(value):
            raise _Wrong(where, value, wanted)

    return check


def _optional(holds: Holds) -> Holds:
    """Null, or what `holds` asks for."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            holds(value, where)

    return check


def _fields(required: Mapping[str, Holds], optional: Mapping[str, Holds] | None = None, *, only: bool = False) -> Holds:
    """An object with these fields; `only` these where a class is made of them."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise _Wrong(where, value, "an object")
        for name, holds in required.items():
            if name not in value:
                raise _Wrong(f"{where}.{name}", None, "there")
            holds(value[name], f"{where}.{name}")
        for name, holds in (optional or {}).items():
            if name in value:
                holds(value[name], f"{where}.{name}")
        if only and value.keys() != required.keys():
            raise _Wrong(where, sorted(value), f"an object of {', '.join(required)}")

    return check


def _table(holds: Holds, *, numbered: bool = False) -> Holds:
    """An object with any names, or with counts as names."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise _Wrong(where, value, "an object")
        for name, each in value.items():
            if numbered and not (name.isascii() and name.isdigit() and len(name) <= 9):
                raise _Wrong(where, name, "an object whose names are counts")
            holds(each, f"{where}.{name[:_MOST_QUOTED]}")

    return check


def _list(holds: Holds, *, least: int = 0) -> Holds:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise _Wrong(where, value, "a list" if not least else f"a list of at least {least}")
        for place, each in enumerate(value):
            holds(each, f"{where}[{place}]")

    return check


def _pair(first: Holds, second: Holds) -> Holds:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) != 2:
            raise _Wrong(where, value, "a list of two")
        first(value[0], f"{where}[0]")
        second(value[1], f"{where}[1]")

    return check


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_hexadecimal(value: Any) -> bool:
    """Is it a float as `float.hex` writes it? Infinity and NaN too."""
    if not isinstance(value, str) or len(value) > 40:
        return False
    try:
        float.fromhex(value)
    except (ValueError, OverflowError):
        return False
    return True


_COUNT = _plain("a count", is_count)
_POSITIVE = _plain("a count of at least 1", lambda value: is_count(value) and value > 0)
_NUMBER = _plain("a number", _is_number)
_POSITIVE_NUMBER = _plain("a number above 0", lambda value: _is_number(value) and value > 0)
_SHARE = _plain("a number, not below 0", lambda value: _is_number(value) and value >= 0)
_TEXT = _plain("a text", lambda value: isinstance(value, str))
_HEALTH = _plain(f"a state from 0 to {_WORST_HEALTH}", lambda value: is_count(value, most=_WORST_HEALTH))
_HEXADECIMAL = _plain("a number in hexadecimal", _is_hexadecimal)


def _engine_state(value: Any, where: str) -> None:
    """The loss scale of fp16, or nothing."""
    scaled = isinstance(value, Mapping) and "loss_scale" in value
    _fields({"loss_scale": _POSITIVE_NUMBER, "good_steps": _SHARE} if scaled else {})(value, where)


def _rollback(value: Any, where: str) -> None:
    _fields({"from_images": _COUNT, "to_images": _COUNT, "reason": _TEXT}, only=True)(value, where)
    if value["to_images"] > value["from_images"]:
        raise _Wrong(f"{where}.to_images", value["to_images"], "no more than from_images")


_PLAYER = _fields(
    {"steps_taken": _COUNT, "engine_state": _engine_state},
    {"memory": _table(_NUMBER)},
)
_SEEN = _fields(
    {},
    {"health": _HEALTH, "run_level": _HEALTH}
    | dict.fromkeys(("run_length", "run_onset", "last_images", "onset"), _COUNT),
)
_SINCE = {
    "steps": _COUNT,
    "skipped_before": _COUNT,
    "sums": _table(_pair(_NUMBER, _POSITIVE)),
    "distance_growth": _optional(_NUMBER),
}
_HEALTH_STATE = {
    "watch": _table(_SEEN),
    "baselines": _table(_list(_NUMBER)),
    "real": _table(_table(_NUMBER, numbered=True), numbered=True),
    "since_last_look": _fields({}, _SINCE),
}
_MEASURED = _table(_pair(_COUNT, _optional(_NUMBER)))
_RECORD = _fields(
    {
        "players": _table(_PLAYER),
        "skipped_steps": _COUNT,
        "science_hash": _TEXT,
        "data": _fields({"fingerprint": _TEXT, "count": _COUNT}),
    },
    {
        "draws_version": _POSITIVE,
        "skipped_samples": _SHARE,
        "window": _fields({}, {"steps": _COUNT, "scores": _table(_list(_pair(_HEXADECIMAL, _HEXADECIMAL), least=1))}),
        "cut": _optional(_fields({"world": _POSITIVE, "micro_batches": _POSITIVE}, only=True)),
        "health": _fields({}, _HEALTH_STATE),
        "rollbacks": _list(_rollback),
        "evaluation": _optional(_fields({}, {"scores": _list(_TEXT), "best": _MEASURED, "latest": _MEASURED})),
    },
)
