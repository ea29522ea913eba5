"""The format of NVlabs' StyleGAN3; its discriminator is StyleGAN2's.

The names of layers tell size and channels (`L3_52_512`), and buffers hold the filters; both together tell which layers
are critically sampled. Overrides for what neither tells: `first_cutoff`, `first_stopband`,
`last_stopband_ratio`, `margin`, `oversampling`, `conv_clamp`, by our names or theirs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framework.interop.blueprint import Blueprint, State
from framework.interop.formats import stylegan2
from framework.interop.names import pair, under
from framework.networks import stylegan3
from framework.networks.blocks.flexible_layers import Signal, flexible_layers
from framework.utils.errors import FrameworkError

PLACES = stylegan2.PLACES

OPTIONS = {
    "generator": {
        "num_critical": "num_critical",
        "first_cutoff": "first_cutoff",
        "first_stopband": "first_stopband",
        "last_stopband_rel": "last_stopband_ratio",
        "margin_size": "margin",
        "lrelu_upsampling": "oversampling",
        "filter_size": "filter_size",
        "conv_clamp": "conv_clamp",
        "w_avg_beta": "w_avg_keep",
    },
    "discriminator": stylegan2.OPTIONS["discriminator"],
}

LAYER = {"weight": "weight", "bias": "bias", "affine.weight": "affine.weight", "affine.bias": "affine.bias"}
BUFFERS = {"magnitude_ema": "magnitude.value", "up_filter": "up_filter", "down_filter": "down_filter"}
INPUT = {
    "weight": "weight",
    "affine.weight": "affine.weight",
    "affine.bias": "affine.bias",
    "freqs": "frequencies",
    "phases": "phases",
    "transform": "transform",
}

_SPECTRUM = {"first_cutoff": 2.0, "first_stopband": 2**2.1, "last_stopband_ratio": 2**0.3, "margin": 10}
"""Options that, with the critical layers, decide the frequencies of each layer, and their usual values."""

_ONE_CHANNEL = {"channel_base": 1 << 40, "channel_max": 1}
"""Options of a tiny network with the same sizes and filters."""

discriminator = stylegan2.discriminator


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer as its name, `synthesis.L3_52_512`, describes it; `size` is in pixels."""

    name: str
    size: int
    channels: int


def generator(state: State) -> Blueprint:
    """Read `mapping.fc0`, ..., `synthesis.input`, `synthesis.L0_36_512`, ...

    Raises:
        FrameworkError: layers are missing, or sizes and filters fit no number of critical layers.
    """
    layers = _layers(state)
    pairs = stylegan2.mapping(state)
    pairs += under("synthesis.input", "synthesis.input", [pair(*item) for item in INPUT.items()])
    for index, layer in enumerate(layers):
        names = LAYER | {name: own for name, own in BUFFERS.items() if f"{layer.name}.{name}" in state}
        pairs += under(layer.name, f"synthesis.layers.{index}", [pair(*item) for item in names.items()])
    filters = [name for name in state if name.endswith("_filter")]
    options = {
        "resolution": layers[-1].size,
        "channels": layers[-1].channels,
        **stylegan2.mapping_options(state),
        "num_layers": len(layers) - 1,
        "kernel": state.shape(f"{layers[0].name}.weight")[2],
        "radial": any(len(state.shape(name)) == 2 for name in filters),
        "filter_size": state.shape(f"{layers[0].name}.up_filter")[0] // state.given.get("oversampling", 2),
    }
    return Blueprint(cls=stylegan3.Generator, options=options | _spectrum(state, layers, options), pairs=pairs)


def _layers(state: State) -> list[Layer]:
    found = {}
    for name in state:
        match = re.fullmatch(r"(synthesis\.L(\d+)_(\d+)_(\d+))\.weight", name)
        if match:
            found[int(match[2])] = Layer(name=match[1], size=int(match[3]), channels=int(match[4]))
    if len(found) < 3 or sorted(found) != list(range(len(found))):
        raise FrameworkError(f"layers {sorted(found)} are not numbered 0, 1, 2, ...")
    return [found[index] for index in range(len(found))]


def _spectrum(state: State, layers: list[Layer], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of critical layers and of channels that give the sizes, channels and filters of the state."""
    given = {name: state.given.get(name, default) for name, default in _SPECTRUM.items()}
    sizes = {"resolution": options["resolution"], "num_layers": options["num_layers"], **given, **_ONE_CHANNEL}
    found: list[tuple[float, int, dict[str, Any]]] = []
    # Try each number of critical layers; the filters of a tiny network decide among those whose sizes fit.
    for number in [state.given["num_critical"]] if "num_critical" in state.given else range(1, len(layers) - 1):
        signals = flexible_layers(num_critical=number, **sizes)
        channels = _channels(signals, [layer.channels for layer in layers[:-1]])
        if channels is None or [signal.size for signal in signals] != [layer.size for layer in layers[:-1]]:
            continue
        shared = {name: options[name] for name in ("kernel", "radial", "filter_size")}
        oversampling = state.given.get("oversampling", 2)
        tiny = stylegan3.Generator(num_critical=number, oversampling=oversampling, z_dim=1, w_dim=1, **sizes, **shared)
        deviation = _deviation(state, layers, tiny)
        if deviation < math.inf:
            found.append((deviation, abs(number - 2), {"num_critical": number, **channels}))
    if not found:
        raise FrameworkError(f"sizes and filters fit no number of critical layers, with {given}")
    return min(found, key=lambda each: each[:2])[2]


def _channels(signals: Sequence[Signal], channels: Sequence[int]) -> dict[str, int] | None:
    """Return base and maximum that give `min(round(base / (2 cutoff)), maximum)` channels; None if none fit."""
    maximum = max(channels)
    pairs = [(number, 2 * signal.cutoff) for number, signal in zip(channels, signals, strict=True)]
    low = max((number - 0.5) * bound for number, bound in pairs)
    high = min(((number + 0.5) * bound for number, bound in pairs if number < maximum), default=math.inf)
    power = 1 << math.ceil(math.log2(low))
    base = power if power < high else math.ceil(low)
    return {"channel_base": base, "channel_max": maximum} if base < high else None


def _deviation(state: State, layers: list[Layer], network: stylegan3.Generator) -> float:
    """Return the largest difference between filters: infinite if their shapes differ, 0 if there are no values."""
    deviation = 0.0
    for layer, own in zip(layers, network.synthesis.layers, strict=True):
        for name in ("up_filter", "down_filter"):
            taps, theirs = getattr(own, name, None), state.get(f"{layer.name}.{name}")
            if (None if taps is None else taps.shape) != (None if theirs is None else theirs.shape):
                return math.inf
            if taps is not None and theirs is not None and not theirs.is_meta:
                deviation = max(deviation, (theirs.double() - taps.double()).abs().max().item())
    return deviation
