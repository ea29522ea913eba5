"""Name maps: which tensor of a peer is which of ours, as plain tables that are checked to use every tensor once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from framework.networks.blocks.spectral import SpectralNorm
from framework.utils.errors import FrameworkError

_MOST_NAMED = 8
"""Tensors named in one error."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a peer's tensor becomes ours, and back."""

    read: Callable[[Tensor], tuple[Tensor, ...]]
    """One of theirs to one or several of ours."""
    write: Callable[..., Tensor] | None = None
    """Ours to theirs; None: cannot go back."""


SAME = Change(read=lambda tensor: (tensor,), write=lambda tensor: tensor)
FLAT = Change(read=lambda tensor: (tensor.flatten(),), write=lambda tensor: tensor)
"""To one dimension: their scalars, and row vectors of power iteration."""
TRANSPOSED = Change(read=lambda tensor: (tensor.t(),), write=lambda tensor: tensor.t())
"""Embeddings (classes, features) to linear maps of one-hot labels (features, classes)."""
DROPPED = Change(read=lambda tensor: ())
"""Known, and without use: counters and values kept for a log."""


@dataclass(frozen=True)
class Pair:
    """A tensor of a peer and what it is called here."""

    theirs: str
    ours: tuple[str, ...]
    """Usually one; several where they keep in one tensor what is separate here; none where it is dropped."""
    change: Change = SAME
    optional: bool = False
    """May be absent: counters that older versions did not save, and constants."""


def pair(theirs: str, ours: str, change: Change = SAME) -> Pair:
    """The usual case: one tensor for one tensor."""
    return Pair(theirs, (ours,), change)


def dropped(theirs: str) -> Pair:
    """A tensor that is known and not needed."""
    return Pair(theirs, (), DROPPED, optional=True)


def under(theirs: str, ours: str, pairs: Iterable[Pair]) -> list[Pair]:
    """A table of a module's tensors, for a module inside another: both sides get a prefix."""
    return [
        Pair(f"{theirs}.{each.theirs}", tuple(f"{ours}.{name}" for name in each.ours), each.change, each.optional)
        for each in pairs
    ]


def translated(state: Mapping[str, Tensor], pairs: Iterable[Pair], *, kind: str) -> dict[str, Tensor]:
    """Their tensors under our names and in our layouts.

    Raises:
        FrameworkError: a tensor is missing, or there are others than the table has; names them.
    """
    table = {each.theirs: each for each in pairs}
    unknown = [name for name in state if name not in table]
    missing = [name for name, each in table.items() if name not in state and not each.optional]
    if unknown or missing:
        lists = [f"{title}: {_named(names)}" for title, names in (("unknown", unknown), ("missing", missing)) if names]
        raise FrameworkError(f"not the names of a {kind} network that this version knows; {'; '.join(lists)}")
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for target, value in zip(table[name].ours, table[name].change.read(tensor), strict=True):
            if target in ours:
                raise AssertionError(f"{kind}: {name} and another tensor both become {target}")
            ours[target] = value
    return ours


def written(state: Mapping[str, Tensor], pairs: Iterable[Pair]) -> dict[str, Tensor]:
    """The way back: our tensors under their names and in their layouts.

    Raises:
        FrameworkError: one of our tensors is not in the table.
    """
    table = list(pairs)
    unknown = sorted(set(state) - {name for each in table for name in each.ours})
    if unknown:
        raise FrameworkError(f"their format has no place for: {_named(unknown)}")
    return {
        each.theirs: each.change.write(*(state[name] for name in each.ours)).contiguous()
        for each in table
        if each.change.write is not None
    }


@torch.no_grad()
def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, kind: str, absent: Iterable[str] = ()) -> None:
    """Copy the tensors into the network, each of whose parameters and buffers must be given.

    Only the names in `absent` need not be there, and power-iteration vectors `v`: peers that keep `u` alone iterate
    once before each use, and so does this function.

    Raises:
        FrameworkError: names or shapes differ: the peer's network is not the one that was inferred.
    """
    own = network.state_dict()
    derived = {
        f"{path}.parametrizations.{name}.{index}.v": (chain[index], chain.original)
        for path, module in network.named_modules()
        if parametrize.is_parametrized(module)
        for name, chain in module.parametrizations.items()
        for index, step in enumerate(chain)
        if isinstance(step, SpectralNorm)
    }
    lacking = [name for name in own if name not in tensors and name not in derived and name not in absent]
    extra = [name for name in tensors if name not in own]
    if lacking or extra:
        raise FrameworkError(
            f"{kind}: the inferred network {type(network).__name__} also has {_named(lacking)}, and has no "
            f"{_named(extra)}; an override may be wrong"
        )
    differing = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if tensor.shape != own[name].shape
    ]
    if differing:
        raise FrameworkError(f"{kind}: shapes do not fit the inferred {type(network).__name__}: {_named(differing)}")
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
    for name, (norm, weight) in derived.items():
        if name not in tensors:
            norm.iterate(weight)


def _named(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "") if names else "nothing"
