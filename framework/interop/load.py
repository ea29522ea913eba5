"""Loading the weights of a public implementation into a network of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from framework.interop.blueprint import Blueprint, Kind, State
from framework.interop.names import fill, translated
from framework.networks import latent_size
from framework.networks.blocks.mapping import Mapping as StyleMapping
from framework.recipe import Network
from framework.utils.bounded import decoding
from framework.utils.budget import Budget
from framework.utils.errors import FrameworkError
from framework.utils.suggest import nearest

Side = Literal["generator", "discriminator"]

KINDS = {
    "biggan-pytorch": "biggan",
    "studiogan": "studiogan",
    "mimicry": "mimicry",
    "nvlabs-stylegan2": "stylegan2",
    "nvlabs-stylegan3": "stylegan3",
    "r3gan": "r3gan",
    "rosinality-stylegan2": "rosinality",
    "gan-zoo-progan": "ganzoo",
    "dcgan-pytorch-examples": "dcgan",
}
"""The projects -> their modules in `framework.interop.formats`."""

_MEAN_STYLE = "mapping.w_avg.value"
_NUM_STYLES = 4096
"""The number of styles that are averaged if a project keeps no mean style."""

_WRAPPERS = ("module.", "_orig_mod.")
"""The prefixes that DataParallel and torch.compile put before every name."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network with foreign weights, and the description that was inferred for it."""

    network: nn.Module
    description: Network
    """The network's class, and every option that was inferred or given."""
    num_tensors: int
    """The number of tensors in the state, each of which was used once."""


def load(kind: str, side: Side, state: Mapping[str, Tensor | np.ndarray[Any, Any]], **overrides: Any) -> nn.Module:
    """Return a network in evaluation mode with the weights of another project's `state_dict()`.

    Args:
        kind: the project; one of `KINDS`.
        side: `generator`, called `(z, labels=None, ...)`, or `discriminator`, called `(images, labels=None, ...)` with
            labels (N,) int64 or (N, classes).
        state: names to tensors or arrays, in the shapes in which that project saves them.
        overrides: options of our network's constructor that shapes do not tell, or that shall differ.

    Raises:
        FrameworkError: an unknown kind, side or override, or names and shapes that are not such a network's.
    """
    return understand(kind, side, state, **overrides).network


def understand(kind: str, side: Side, state: Mapping[str, Tensor | np.ndarray[Any, Any]], **overrides: Any) -> Loaded:
    """Return what `load` returns, together with what was inferred; arguments and errors are those of `load`."""
    # Infer class, options and name map from names and shapes.
    given = translated_options(kind, side, overrides)
    tensors = State(_tensors(state), given)
    blueprint = _blueprint(kind, side, tensors)
    # Every weight is replaced: draw them in the cheapest way.
    drawn = {"init": "normal"} if "init" in Network.parameters_of(blueprint.cls) else {}
    description = Network(blueprint.cls, **drawn | blueprint.options | given)
    # Build the network, if it is no larger than the state.
    budget = Budget.of(tuple(tensor.shape) for tensor in tensors.values())
    budget.check(description.build, description.options, source=f"the state of the {kind} {side}")
    on_meta = any(tensor.is_meta for tensor in tensors.values())
    with torch.device("meta" if on_meta else "cpu"):
        network = description.build()
    if any(tensor.dtype == torch.float64 for tensor in tensors.values()):
        network.double()
    # Fill it.
    with decoding(f"the state of the {kind} {side}"):  # layouts are changed before shapes are compared
        ours = translated(tensors, blueprint.pairs, kind=kind)
    fill(network, ours, kind=kind, absent=[_MEAN_STYLE] if blueprint.averages_styles else [])
    if blueprint.averages_styles and not on_meta:
        _average_styles(network)
    network.register_forward_pre_hook(_accept_label, with_kwargs=True)
    return Loaded(network=network.eval(), description=description, num_tensors=len(tensors))


def _accept_label(
    network: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Accept labels as `label=`, too, as most of these projects call them."""
    if "label" in keywords:
        keywords["labels"] = keywords.pop("label")
    return positional, keywords


def translated_options(
    kind: str, side: Side, options: Mapping[str, Any], *, known_only: bool = False
) -> dict[str, Any]:
    """Return options under our names; those of the project's own constructors may be nested in `..._kwargs`.

    Args:
        kind: the project.
        side: the player.
        options: the options, by our names or theirs.
        known_only: leave out names that are not theirs.
    """
    table = getattr(kind_of(kind), "OPTIONS", {}).get(side, {})
    ours: dict[str, Any] = {}
    for name, value in options.items():
        if name.endswith("_kwargs") and isinstance(value, Mapping):
            ours |= translated_options(kind, side, value, known_only=known_only)
        elif name in table or not known_only:
            ours[table.get(name, name)] = value
    return ours


def kind_of(name: str) -> Kind:
    """Return the module that reads a project's networks.

    Raises:
        FrameworkError: there is no such kind.
    """
    if name not in KINDS:
        raise FrameworkError(f"kind={name!r} is not known{nearest(name, KINDS)}; known: {', '.join(sorted(KINDS))}")
    return cast(Kind, import_module(f"framework.interop.formats.{KINDS[name]}"))


def _blueprint(kind: str, side: Side, state: State) -> Blueprint:
    module = kind_of(kind)
    if side not in get_args(Side):
        raise FrameworkError(f"side={side!r} must be one of: {', '.join(get_args(Side))}")
    if not state:
        raise FrameworkError("the state holds no tensors")
    try:
        return module.generator(state) if side == "generator" else module.discriminator(state)
    except (FrameworkError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise FrameworkError(f"not the state of a {kind} {side}: {error}") from error


def _tensors(state: Mapping[str, Tensor | np.ndarray[Any, Any]]) -> dict[str, Tensor]:
    tensors = {
        name: value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        for name, value in state.items()
    }
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


@torch.no_grad()
def _average_styles(network: nn.Module) -> None:
    latents = torch.randn(_NUM_STYLES, latent_size(network), generator=torch.Generator().manual_seed(0))
    mapping = network.get_submodule("mapping")
    assert isinstance(mapping, StyleMapping)
    network.get_buffer(_MEAN_STYLE).copy_(mapping.styles(latents).mean(0))
