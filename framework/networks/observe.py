"""Detection of a forward's side effects: random numbers drawn, batch statistics used, tensors changed.

A forward in training may draw no random numbers and change nothing (docs/decisions/008). Inside `observed` every
operation passes two modes of torch, which see functional calls as well as layers; names come from the running layer.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from framework.networks.blocks.norm import BatchNorm2d


@dataclass(kw_only=True)
class Observed:
    """The side effects that were seen, by the name of a layer ("" = the network itself), in the order of occurrence."""

    draws: dict[str, str] = field(default_factory=dict)
    """Layers that drew random numbers, and what drew them: a torch class, or the operation."""
    batch_norms: dict[str, str] = field(default_factory=dict)
    """Layers that normalised over this process's images alone, and the torch class or function that did it."""
    power_iterations: dict[str, str] = field(default_factory=dict)
    """Layers under torch's own spectral norm, which iterates in forward."""
    changed: dict[str, str] = field(default_factory=dict)
    """Buffers and parameters that changed in any other way, and the layer that holds them."""


@contextlib.contextmanager
def observed(network: nn.Module) -> Iterator[Observed]:
    """Watch the forward passes of `network` in this context; the result is complete when the context ends."""
    seen, layers = Observed(), _Layers(network)
    before = {name: (tensor, tensor._version) for name, tensor in _state(network)}
    foreign = _foreign_generators()
    with ExitStack() as stack:
        stack.enter_context(layers.followed(seen))
        stack.enter_context(_Draws(layers, seen))
        stack.enter_context(_BatchNorms(layers, seen))
        yield seen
    for name, now in _foreign_generators().items():
        if now != foreign[name]:
            seen.draws.setdefault("", name)
    _compare(network, before, seen)


class _Layers:
    """The stack of running layers of a network."""

    def __init__(self, network: nn.Module) -> None:
        self._named = list(network.named_modules())
        self._running: list[tuple[str, nn.Module]] = [("", network)]

    @property
    def innermost(self) -> tuple[str, nn.Module]:
        """The name of the layer whose forward is running, and the layer."""
        return self._running[-1]

    @contextlib.contextmanager
    def followed(self, seen: Observed) -> Iterator[None]:
        """Track the running layer inside this context, and note torch's batch norms as they begin."""
        handles = []
        for name, layer in self._named:
            handles.append(layer.register_forward_pre_hook(self._entering(name, seen), prepend=True))
            handles.append(layer.register_forward_hook(self._left, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str, seen: Observed) -> Callable[[nn.Module, Any], None]:
        """Return the hook that runs before a layer's forward."""

        def entering(layer: nn.Module, _: Any) -> None:
            self._running.append((name, layer))
            if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
                seen.batch_norms.setdefault(name, f"torch.nn.{type(layer).__name__}")

        return entering

    def _left(self, *_: Any) -> None:
        """Leave the running layer; the hook that runs after its forward."""
        self._running.pop()


class _Draws(TorchDispatchMode):
    """A mode that notes every operation that uses a random number generator."""

    def __init__(self, layers: _Layers, seen: Observed) -> None:
        super().__init__()
        self._layers, self._seen = layers, seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            name, layer = self._layers.innermost
            of_torch = type(layer).__module__.startswith("torch.nn.")
            what = f"torch.nn.{type(layer).__name__}" if of_torch else f"torch's {func.overloadpacket.__name__}"
            self._seen.draws.setdefault(name, what)
        return func(*args, **(kwargs or {}))


class _BatchNorms(TorchFunctionMode):
    """A mode that notes functional batch norms in training, outside torch's batch norm layers and our own."""

    def __init__(self, layers: _Layers, seen: Observed) -> None:
        super().__init__()
        self._layers, self._seen = layers, seen

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, layer = self._layers.innermost
        if func in (functional.batch_norm, torch.batch_norm) and not isinstance(layer, _BatchNorm | BatchNorm2d):
            in_training = kwargs.get("training", args[5] if len(args) > 5 else False)
            if in_training:
                self._seen.batch_norms.setdefault(name, "torch.nn.functional.batch_norm")
        return func(*args, **kwargs)


def _state(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every buffer and parameter with its name."""
    yield from network.named_buffers()
    yield from network.named_parameters()


def _compare(network: nn.Module, before: dict[str, tuple[Tensor, int]], seen: Observed) -> None:
    """Note the tensors that were written to or replaced since `before`, except those of batch norms.

    Args:
        network: the network.
        before: each tensor and its version counter by name.
        seen: takes the result.
    """
    after = dict(_state(network))
    for name in {**before, **after}:
        held, version = before.get(name, (None, -1))
        now = after.get(name)
        if now is held and now is not None and now._version == version:
            continue
        owner_name = name.rpartition(".")[0]
        owner = network.get_submodule(owner_name)
        if isinstance(owner, BatchNorm2d) or owner_name in seen.batch_norms:
            continue
        if iterates(owner):
            seen.power_iterations.setdefault(
                owner_name.partition(".parametrizations")[0], "spectral norm of torch.nn.utils"
            )
        else:
            seen.changed[name] = owner_name


def iterates(layer: nn.Module) -> bool:
    """Return whether a layer, or a hook of it, is torch's own spectral norm, in either of its two forms."""
    parts = [layer, *layer._forward_pre_hooks.values()]
    return any(
        type(part).__module__.startswith("torch.nn.utils") and "SpectralNorm" in type(part).__name__ for part in parts
    )


def _foreign_generators() -> dict[str, str]:
    """Return the states of NumPy's and Python's generators, which no mode of torch sees."""
    return {"numpy.random": repr(np.random.get_state()), "random": repr(random.getstate())}
