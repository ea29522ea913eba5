"""What is read off a foreign state dict before any value is touched: which of our networks it is, and the name map."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from framework.interop.names import Pair
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Our network that a state dict fits, and which of its tensors goes where."""

    cls: type[nn.Module]
    options: dict[str, Any]
    """Of the constructor, as far as names and shapes tell."""
    pairs: list[Pair]
    averages_styles: bool = False
    """StyleGAN without a stored mean style: it is estimated when the state is read."""


class State(Mapping[str, Tensor]):
    """A state dict that answers questions about its names and shapes.

    Args:
        tensors: the state dict.
        given: options the caller gave for what it cannot answer.
    """

    def __init__(self, tensors: Mapping[str, Tensor], given: Mapping[str, Any] | None = None) -> None:
        self._tensors = dict(tensors)
        self.given = dict(given or {})

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise FrameworkError(f"the state has no tensor {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def get(self, name: str, default: Any = None) -> Any:
        """The tensor, or the default."""
        return self._tensors.get(name, default)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            FrameworkError: there is no such tensor.
        """
        return tuple(self[name].shape)

    def numbers(self, pattern: str) -> list[int]:
        """The distinct numbers in the first group of `pattern`, which is matched at the beginning of the names."""
        found = (re.match(pattern, name) for name in self)
        return sorted({int(match[1]) for match in found if match})

    def count(self, pattern: str) -> int:
        """How many there are.

        Raises:
            FrameworkError: they are not 0, 1, 2, ...
        """
        numbers = self.numbers(pattern)
        if not numbers or numbers != list(range(len(numbers))):
            raise FrameworkError(f"the state has no complete row of tensors named like {pattern}: found {numbers}")
        return len(numbers)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the states of one network may stand in a file of some project, by their path; first found, first taken."""

    generator: tuple[str, ...]
    average: tuple[str, ...] = ()
    """The generator's moving average."""
    discriminator: tuple[str, ...]


class Kind(Protocol):
    """A project whose networks can be read: one module of `framework.interop.formats`."""

    PLACES: Places

    def generator(self, state: State) -> Blueprint:
        """What a generator's state is."""
        ...

    def discriminator(self, state: State) -> Blueprint:
        """What a discriminator's state is."""
        ...
