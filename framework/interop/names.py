"""Name maps from a project's tensors to ours, as plain tables that are checked to use every tensor once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from framework.networks.blocks.spectral import SpectralNorm
from framework.utils.errors import FrameworkError

_MOST_NAMED = 8
"""The most tensors that one error names."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of layout between a project's tensor and ours."""

    read: Callable[[Tensor], tuple[Tensor, ...]]
    """The function from one of their tensors to one or several of ours; shapes differ from table to table."""
    write: Callable[..., Tensor] | None = None
    """The function from our tensors to theirs; None if there is no way back."""


SAME = Change(read=lambda tensor: (tensor,), write=lambda tensor: tensor)
FLAT = Change(read=lambda tensor: (tensor.flatten(),), write=lambda tensor: tensor)
"""Flattening, of their scalars and of row vectors of power iteration."""
TRANSPOSED = Change(read=lambda tensor: (tensor.t(),), write=lambda tensor: tensor.t())
"""Transposition, from embeddings (classes, features) to linear maps of one-hot labels (features, classes)."""
DROPPED = Change(read=lambda tensor: ())
"""Omission of tensors that are known and not used, such as counters and values kept for a log."""


@dataclass(frozen=True)
class Pair:
    """A tensor of a project, and its names in our network."""

    theirs: str
    ours: tuple[str, ...]
    """Our names: usually one; several if one of their tensors is separate tensors here; none if it is dropped."""
    change: Change = SAME
    optional: bool = False
    """True if the tensor may be absent, such as constants and counters that older versions did not save."""


def pair(theirs: str, ours: str, change: Change = SAME) -> Pair:
    """Return the pair of one of their tensors and one of ours."""
    return Pair(theirs, (ours,), change)


def dropped(theirs: str) -> Pair:
    """Return the pair of a tensor that is known and not needed."""
    return Pair(theirs, (), DROPPED, optional=True)


def under(theirs: str, ours: str, pairs: Iterable[Pair]) -> list[Pair]:
    """Return a module's table for its place in another module, with a prefix on both sides."""
    return [
        Pair(f"{theirs}.{each.theirs}", tuple(f"{ours}.{name}" for name in each.ours), each.change, each.optional)
        for each in pairs
    ]


def translated(state: Mapping[str, Tensor], pairs: Iterable[Pair], *, kind: str) -> dict[str, Tensor]:
    """Return their tensors under our names and in our layouts (shapes as the table's changes make them).

    Raises:
        FrameworkError: a tensor is missing, or is not in the table; the message names it.
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
    """Return our tensors under their names and in their layouts, the inverse of `translated`.

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

    Only the names in `absent` may be missing, and power-iteration vectors `v`: projects that keep `u` alone iterate
    once before each use, and so does this function.

    Args:
        network: our network; it is changed.
        tensors: our names -> tensors in the shapes of the network's.
        kind: the project, for the messages.
        absent: names that need not be given.

    Raises:
        FrameworkError: names or shapes differ, so that the network is not the one that was inferred.
    """
    # Vectors that one power iteration gives.
    own = network.state_dict()
    derived = {
        f"{path}.parametrizations.{name}.{index}.v": (chain[index], chain.original)
        for path, module in network.named_modules()
        if parametrize.is_parametrized(module)
        for name, chain in module.parametrizations.items()
        for index, step in enumerate(chain)
        if isinstance(step, SpectralNorm)
    }
    # Every name once, and the same shapes.
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
    # Copy, then iterate where only u was given.
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
    for name, (norm, weight) in derived.items():
        if name not in tensors:
            norm.iterate(weight)


def _named(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "") if names else "nothing"
