"""Bounds networks that are built from descriptions of others by the number and size of their stored tensors.

A description in a file may ask for any width or depth. It is built on the meta device first, where tensors have shapes
and no values, and refused as soon as it has far more than the stored tensors could fill.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from framework.utils.bounded import decoding
from framework.utils.errors import FrameworkError

_TIMES = 4
"""Largest ratio of what a network registers to what is stored: weights are registered again when they are wrapped, and
filters and caches are not stored."""
_SPARE_ELEMENTS = 1 << 22
"""Number of elements that any network may register beyond that."""
_SPARE_MODULES = 4096
"""Number of modules and tensors that any network may register beyond that."""
_LARGEST_OPTION = 1 << 24
"""Largest number that a constructor may be given: it may make a list of that length before there is a layer."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The numbers of stored tensors and of their elements, by which a network is bounded."""

    tensors: int
    elements: int

    @classmethod
    def of(cls, shapes: Iterable[tuple[int, ...]]) -> Budget:
        """Return the budget of a network with stored tensors of these shapes."""
        counts = [math.prod(shape) for shape in shapes]
        return cls(tensors=len(counts), elements=sum(counts))

    def check(self, build: Callable[[], nn.Module], options: Mapping[str, Any], *, source: str) -> None:
        """Build a network on the meta device, where its tensors take no memory, and refuse one that is too large.

        Args:
            build: a function that makes it on the default device.
            options: the options that its constructor is given.
            source: name of the description in messages.

        Raises:
            FrameworkError: it cannot be built, or has far more than the budget.
        """
        for name, value in options.items():
            _check_numbers(value, name=name, source=source)
        with decoding(source), _counting(self, source=source), torch.device("meta"):
            build()


def _check_numbers(value: Any, *, name: str, source: str) -> None:
    if isinstance(value, list | tuple):
        for each in value:
            _check_numbers(each, name=name, source=source)
    elif isinstance(value, int | float) and not abs(value) <= _LARGEST_OPTION:
        raise FrameworkError(f"{source}: the option {name}={value} is larger than {_LARGEST_OPTION}")


@contextmanager
def _counting(budget: Budget, *, source: str) -> Iterator[None]:
    """Count what the modules of this thread register inside the context, and raise when it becomes too much."""
    thread, num_elements, num_members = threading.get_ident(), 0, 0

    def count(module: nn.Module, name: str, member: object) -> None:
        nonlocal num_elements, num_members
        if threading.get_ident() != thread or member is None:
            return
        num_members += 1
        num_elements += member.numel() if isinstance(member, torch.Tensor) else 0
        if (
            num_elements > _TIMES * budget.elements + _SPARE_ELEMENTS
            or num_members > _TIMES * budget.tensors + _SPARE_MODULES
        ):
            raise FrameworkError(
                f"{source} describes a network far larger than its stored {budget.tensors} tensors of "
                f"{budget.elements} elements: its options are not those of these weights"
            )

    # torch calls these hooks in all threads; `count` ignores the others.
    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
        register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
