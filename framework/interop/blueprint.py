"""The plan for loading a foreign state dict, made from names and shapes alone: our network, and the name map."""

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
    """The network of ours that a state dict fits, and the map of its tensors."""

    cls: type[nn.Module]
    options: dict[str, Any]
    """Options of the constructor, as far as names and shapes tell them."""
    pairs: list[Pair]
    averages_styles: bool = False
    """True for a StyleGAN state without a mean style, which is then estimated."""


class State(Mapping[str, Tensor]):
    """A state dict with methods for its names and shapes.

    Args:
        tensors: the state dict; tensors of any shape.
        given: the caller's options for what names and shapes do not tell.
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
        """Return the tensor, or the default if there is none."""
        return self._tensors.get(name, default)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            FrameworkError: there is no such tensor.
        """
        return tuple(self[name].shape)

    def numbers(self, pattern: str) -> list[int]:
        """Return the distinct numbers in the first group of `pattern`, matched at the beginning of names, ascending."""
        found = (re.match(pattern, name) for name in self)
        return sorted({int(match[1]) for match in found if match})

    def count(self, pattern: str) -> int:
        """Return how many numbers `numbers` finds.

        Raises:
            FrameworkError: there are none, or they are not 0, 1, 2, ...
        """
        numbers = self.numbers(pattern)
        if not numbers or numbers != list(range(len(numbers))):
            raise FrameworkError(f"the state has no complete row of tensors named like {pattern}: found {numbers}")
        return len(numbers)


@dataclass(frozen=True, kw_only=True)
class Places:
    """The paths at which a project's files may hold the state of each network; the first one found is taken."""

    generator: tuple[str, ...]
    average: tuple[str, ...] = ()
    """Paths of the generator's moving average."""
    discriminator: tuple[str, ...]


class Kind(Protocol):
    """A project whose networks can be read, which is one module of `framework.interop.formats`."""

    PLACES: Places

    def generator(self, state: State) -> Blueprint:
        """Return the blueprint of a generator's state."""
        ...

    def discriminator(self, state: State) -> Blueprint:
        """Return the blueprint of a discriminator's state."""
        ...
