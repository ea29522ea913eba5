"""Ranges of the numbers that a flag or a field takes, written beside its type and checked in one place.

    stall_seconds: Annotated[float, Range(least=1)] = 600.0

Every number is finite, and integers fit into 64 bits, with or without a `Range`. NaN compares as false with everything,
so that a hand-written `value < least` lets it through.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from framework.utils.errors import FrameworkError

LARGEST = 2**63 - 1
"""The largest integer that is taken, positive or negative: clocks, counts and seeds become int64."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that are taken, from `least` to `most`.

    A tuple's range is that of each of its numbers, and None is always taken.
    """

    least: float = -math.inf
    """The smallest number that is taken."""
    most: float = math.inf
    """The largest number that is taken."""
    above: float = -math.inf
    """A bound that all numbers are larger than."""
    below: float = math.inf
    """A bound that all numbers are smaller than."""

    def refusal(self, value: float) -> str:
        """Return why a number is not taken, such as `must be at least 1`; empty if it is taken."""
        if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
            return "must fit into 64 bits"
        if not math.isfinite(value):
            return "must be a finite number"
        if value <= self.above:
            return "must be positive" if self.above == 0 else f"must be above {self.above:g}"
        if value < self.least:
            return f"must be at least {self.least:g}"
        if value >= self.below:
            return f"must be below {self.below:g}"
        return f"must be at most {self.most:g}" if value > self.most else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """A number that is not taken."""

    name: str
    value: float
    reason: str


def refusals(owner: Any, values: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield the numbers among `values` that the annotations of a dataclass or a function do not take."""
    for name, annotation in typing.get_type_hints(owner, include_extras=True).items():
        given = getattr(annotation, "__metadata__", ())
        taken = next((one for one in given if isinstance(one, Range)), Range())
        value = values.get(name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool) and (reason := taken.refusal(number)):
                yield Refusal(name=name, value=number, reason=reason)


def check_numbers(instance: Any) -> None:
    """Refuse numbers that a dataclass's annotations do not take.

    Raises:
        FrameworkError: a number is out of range; names class and field.
    """
    for wrong in refusals(type(instance), vars(instance)):
        raise FrameworkError(f"{type(instance).__name__}: {wrong.name}={wrong.value} {wrong.reason}")


def check_flags(owner: Any, values: Mapping[str, Any]) -> None:
    """Refuse numbers that the flags named by a dataclass's fields or a function's arguments do not take.

    A dataclass among a function's arguments has flags of its own.

    Raises:
        FrameworkError: a number is out of range; names the flag.
    """
    for wrong in refusals(owner, values):
        raise FrameworkError(f"--{wrong.name.rstrip('_').replace('_', '-')} {wrong.value}: {wrong.reason}")
    for value in values.values():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check_flags(type(value), vars(value))


def with_checked_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that first refuses numbers that the annotations of `command` do not take."""

    @functools.wraps(command)
    def checked(*arguments: Any, **named: Any) -> Any:
        check_flags(command, inspect.signature(command).bind(*arguments, **named).arguments)
        return command(*arguments, **named)

    return checked
