"""Tables that several projects share, for torch's layers and the ways in which they are normalised."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from framework.interop.blueprint import State
from framework.interop.names import FLAT, SAME, TRANSPOSED, Change, Pair, dropped, pair, under
from framework.utils.errors import FrameworkError

ORIGINAL, U, V = (f"parametrizations.weight.{name}" for name in ("original", "0.u", "0.v"))

_LEGACY = {"weight_orig": ORIGINAL, "weight_u": U, "weight_v": V}
"""The names of `torch.nn.utils.spectral_norm` -> ours."""

_U_ONLY = {"u0": "sv0", "sn_u": "sn_sigma"}
"""The names of u -> the singular value in BigGAN-PyTorch and mimicry, which keep no v."""


def _split(embedding: Tensor) -> tuple[Tensor, Tensor]:
    gamma, beta = embedding.t().chunk(2)
    return gamma - 1, beta


GAMMA_BETA = Change(read=_split)
"""The change from mimicry's rows [gamma | beta], (classes, 2 features), to our gain (added to 1) and bias.

Gain and bias are (features, classes) each.
"""


def layer(state: State, theirs: str, ours: str, *, bias: bool = True, change: Change = SAME) -> list[Pair]:
    """Return the pairs of a linear, convolution or embedding layer, with the spectral norm that the state shows.

    `change` applies to the weight of layers without spectral norm.
    """
    pairs = [pair(f"{theirs}.bias", f"{ours}.bias")] if bias else []
    if f"{theirs}.weight_orig" in state:
        return pairs + [pair(f"{theirs}.{name}", f"{ours}.{own}") for name, own in _LEGACY.items()]
    for u, sigma in _U_ONLY.items():
        if f"{theirs}.{u}" in state:
            weight = pair(f"{theirs}.weight", f"{ours}.{ORIGINAL}")
            return [*pairs, weight, pair(f"{theirs}.{u}", f"{ours}.{U}", FLAT), dropped(f"{theirs}.{sigma}")]
    return [*pairs, pair(f"{theirs}.weight", f"{ours}.weight", change)]


def is_spectral(state: State, theirs: str) -> bool:
    """Return whether the layer is spectrally normalised."""
    return any(f"{theirs}.{name}" in state for name in ("weight_orig", *_U_ONLY))


def weight_shape(state: State, theirs: str) -> tuple[int, ...]:
    """Return the shape of the layer's weight."""
    return state.shape(f"{theirs}.weight_orig" if f"{theirs}.weight_orig" in state else f"{theirs}.weight")


def batch_norm(theirs: str, ours: str) -> list[Pair]:
    """Return the pairs of a `torch.nn.BatchNorm2d` under its own names; its counter of batches is dropped."""
    names = ("weight", "bias", "running_mean", "running_var")
    return [*(pair(f"{theirs}.{name}", f"{ours}.{name}") for name in names), dropped(f"{theirs}.num_batches_tracked")]


_STATISTICS = ("running_mean", "running_var")
_STORED = {"stored_mean": "running_mean", "stored_var": "running_var"}
"""The names of BigGAN-PyTorch's own batch norm -> torch's."""


def norm(state: State, theirs: str, ours: str, *, embeds: bool = False) -> list[Pair]:
    """Return the pairs of a batch norm, plain or conditional, of BigGAN-PyTorch, StudioGAN or mimicry.

    Args:
        state: the state, which tells the project.
        theirs: the name of their module.
        ours: the name of ours.
        embeds: gains and biases without spectral norm are embeddings (classes, features), not linear maps.

    Raises:
        FrameworkError: the state has no running statistics.
    """
    if not is_conditional(state, theirs):
        gain = "gain" if f"{theirs}.gain" in state else "weight"
        affine = [pair(f"{theirs}.{gain}", f"{ours}.weight"), pair(f"{theirs}.bias", f"{ours}.bias")]
        return affine + _statistics(state, theirs, ours)
    if f"{theirs}.embed.weight" in state:
        maps = [Pair(f"{theirs}.embed.weight", (f"{ours}.gain.weight", f"{ours}.bias.weight"), GAMMA_BETA)]
    else:
        change = TRANSPOSED if embeds else SAME
        maps = [
            each
            for name in ("gain", "bias")
            for each in layer(state, f"{theirs}.{name}", f"{ours}.{name}", bias=False, change=change)
        ]
    return maps + _statistics(state, theirs, f"{ours}.norm")


def is_conditional(state: State, theirs: str) -> bool:
    """Return whether the batch norm depends on labels."""
    names = ("embed.weight", "gain.weight", "gain.weight_orig")
    return any(f"{theirs}.{name}" in state for name in names)


def _statistics(state: State, theirs: str, ours: str) -> list[Pair]:
    for place in (theirs, f"{theirs}.bn"):
        if f"{place}.stored_mean" in state:
            return under(place, ours, [pair(name, own) for name, own in _STORED.items()])
        if f"{place}.running_mean" in state:
            pairs = under(place, ours, [pair(name, name) for name in _STATISTICS])
            return [*pairs, dropped(f"{place}.num_batches_tracked")]
    raise FrameworkError(f"the state has no running statistics of {theirs}")


def attention(state: State, theirs: str, names: Mapping[str, str], *, ours: str = "attention") -> list[Pair]:
    """Return the pairs of a self-attention; `names` are their names for theta, phi, g, o and gamma."""
    pairs = [pair(f"{theirs}.{names['gamma']}", f"{ours}.gamma", FLAT)]
    for name in ("theta", "phi", "g", "o"):
        pairs += layer(state, f"{theirs}.{names[name]}", f"{ours}.{name}", bias=False)
    return pairs
