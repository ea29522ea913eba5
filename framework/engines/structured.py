"""Dataclasses of tensors, shown to the hooks of sharding libraries, which look for tensors in tuples and lists alone.

A network, or a layer in it, may return a frozen dataclass (`framework.objectives.outputs`). FSDP2 and ZeRO's third
stage gather parameters for the backward pass by hooks on the tensors that a layer returns; in a dataclass they find
none. So a layer's dataclass is taken apart before their hooks see it, and put together afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from framework.objectives.outputs import mapped


@contextlib.contextmanager
def outputs_taken_apart(network: nn.Module) -> Iterator[None]:
    """Let the hooks that are registered in this context, on any layer, see tensors in place of dataclasses."""
    closing = []
    for layer in network.modules():
        opened = _Opened()
        layer.register_forward_hook(opened.take_apart)
        closing.append((layer, opened))
    yield
    for layer, opened in closing:
        layer.register_forward_hook(opened.put_together)


class _Opened:
    """The dataclass that a layer is returning, while its tensors stand in a list."""

    def __init__(self) -> None:
        self._original: Any = None

    def take_apart(self, layer: nn.Module, inputs: Any, output: Any) -> Any:
        """Return the tensors of a dataclass, in the order of its fields; None, which changes nothing, for the rest."""
        if not dataclasses.is_dataclass(output) or isinstance(output, type):
            return None
        tensors: list[Tensor] = []

        def listed(tensor: Tensor) -> Tensor:
            tensors.append(tensor)
            return tensor

        self._original = mapped(output, listed)
        return tensors

    def put_together(self, layer: nn.Module, inputs: Any, output: Any) -> Any:
        """Return the dataclass with the tensors that hooks have made of its own."""
        if self._original is None:
            return None
        original, self._original = self._original, None
        tensors = iter(output)
        return mapped(original, lambda _: next(tensors))
