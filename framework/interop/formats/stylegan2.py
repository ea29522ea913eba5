"""The format of StyleGAN2 in NVlabs' PyTorch programs (stylegan2-ada-pytorch, stylegan3; also StudioGAN's copy).

Overrides for what shapes do not tell, by our names or theirs: `conv_clamp` and, for the discriminator,
`stddev_group_size` (`mbstd_group_size`). Labels are one-hot there, so class indices are ours.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import count
from typing import Any

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.names import Change, Pair, dropped, pair, under
from framework.networks import stylegan2
from framework.utils.errors import FrameworkError

PLACES = Places(generator=("G", ""), average=("G_ema",), discriminator=("D", ""))

OPTIONS = {
    "generator": {
        "conv_clamp": "conv_clamp",
        "lr_multiplier": "mapping_lr_multiplier",
        "w_avg_beta": "w_avg_keep",
        "num_fp16_res": "num_half_precision",
    },
    "discriminator": {
        "conv_clamp": "conv_clamp",
        "mbstd_group_size": "stddev_group_size",
        "num_fp16_res": "num_half_precision",
    },
}
"""Their names -> ours for options that neither names nor shapes of tensors tell."""

FILTER = "resample_filter"
"""The name of a constant that their modules keep; its taps become an option."""

SCALAR = Change(read=lambda tensor: (tensor.view(1),), write=lambda tensor: tensor.view(()))
"""The change from their scalar, (), to our vector, (1,)."""

LINEAR = (pair("weight", "weight"), pair("bias", "bias"))
STYLED_CONVOLUTION = (
    pair("weight", "weight"),
    pair("bias", "bias"),
    pair("noise_strength", "noise_strength", SCALAR),
    pair("noise_const", "noise_const"),
    pair("affine.weight", "style.weight"),
    pair("affine.bias", "style.bias"),
    dropped(FILTER),
)
TO_IMAGE = (
    pair("weight", "weight"),
    pair("bias", "bias"),
    pair("affine.weight", "style.weight"),
    pair("affine.bias", "style.bias"),
)
CONVOLUTION = (pair("weight", "weight"), pair("bias", "bias"), dropped(FILTER))
SHORTCUT = (pair("weight", "weight"), dropped(FILTER))

GENERATOR_BLOCK = {
    "conv0": ("conv0", STYLED_CONVOLUTION),
    "conv1": ("conv1", STYLED_CONVOLUTION),
    "torgb": ("to_image", TO_IMAGE),
    "skip": ("shortcut", SHORTCUT),
}
DISCRIMINATOR_BLOCK = {
    "fromrgb": ("from_image", CONVOLUTION),
    "conv0": ("conv0", CONVOLUTION),
    "conv1": ("conv1", CONVOLUTION),
    "skip": ("shortcut", SHORTCUT),
}
HEAD = {
    "b4.fromrgb": ("from_image", CONVOLUTION),
    "b4.conv": ("conv", CONVOLUTION),
    "b4.fc": ("hidden", LINEAR),
    "b4.out": ("output", LINEAR),
    "linear1": ("output", LINEAR),
}
_ONLY_READ = ("linear1",)
"""StudioGAN's name for `b4.out`, which is never written."""


def generator(state: State) -> Blueprint:
    """Read `mapping.fc0`, ..., `synthesis.b4`, `synthesis.b8`, ...

    Raises:
        FrameworkError: the sides of the blocks are not 4, 8, 16, ...
    """
    sides = _sides(state.numbers(r"synthesis\.b(\d+)\."))
    finest = f"synthesis.b{sides[-1]}"
    widths = {side: state.shape(f"synthesis.b{side}.conv1.weight")[0] for side in sides}
    options = {
        "resolution": sides[-1],
        "channels": state.shape(f"{finest}.torgb.weight")[0],
        **mapping_options(state),
        "architecture": _architecture(state, "synthesis.b4.torgb.weight", f"{finest}.skip.weight"),
        **channel_options(widths),
        **_filter_option(state, "synthesis.b4.resample_filter"),
    }
    return Blueprint(cls=stylegan2.Generator, options=options, pairs=generator_pairs(state, sides))


def discriminator(state: State) -> Blueprint:
    """Read `b1024`, ..., `b8`, `b4`, and `mapping` for labels.

    Raises:
        FrameworkError: the sides of the blocks are not 4, 8, 16, ...
    """
    sides = _sides(state.numbers(r"b(\d+)\."))
    finest = f"b{sides[-1]}"
    widths = {side: state.shape(f"b{side}.conv0.weight")[0] for side in sides[1:]}
    widths[4], with_stddev = state.shape("b4.conv.weight")[:2]
    options: dict[str, Any] = {
        "resolution": sides[-1],
        "channels": state.shape(f"{finest}.fromrgb.weight")[1],
        "classes": 0,
        "architecture": _architecture(state, "b4.fromrgb.weight", f"{finest}.skip.weight"),
        **channel_options(widths),
        "stddev_features": with_stddev - widths[4],
        **_filter_option(state, f"{finest}.resample_filter"),
    }
    if "mapping.embed.weight" in state:
        options["classes"] = state.shape("mapping.embed.weight")[1]
        options["mapping_layers"] = state.count(r"mapping\.fc(\d+)\.weight")
        options["mapping_width"] = state.shape("b4.out.weight")[0]
    return Blueprint(cls=stylegan2.Discriminator, options=options, pairs=discriminator_pairs(state, sides))


def generator_pairs(present: Container[str], sides: Sequence[int]) -> list[Pair]:
    """Return the name map of a generator with feature maps of these sides.

    Args:
        present: the names of its tensors, either theirs or ours; they decide which optional parts there are.
        sides: 4, 8, ... up to the resolution, in pixels.
    """
    pairs = [*mapping(present), pair("synthesis.b4.const", "synthesis.blocks.4.const")]
    for side in sides:
        theirs, ours = f"synthesis.b{side}", f"synthesis.blocks.{side}"
        pairs += [*_parts(present, theirs, ours, GENERATOR_BLOCK), dropped(f"{theirs}.{FILTER}")]
    return pairs


def discriminator_pairs(present: Container[str], sides: Sequence[int]) -> list[Pair]:
    """Return the name map of a discriminator; see `generator_pairs`."""
    pairs = mapping(present) + _parts(present, "", "head", HEAD)
    for side in sides[1:]:
        theirs, ours = f"b{side}", f"blocks.{side}"
        pairs += [*_parts(present, theirs, ours, DISCRIMINATOR_BLOCK), dropped(f"{theirs}.{FILTER}")]
    return pairs


def mapping(present: Container[str]) -> list[Pair]:
    """Return the name map of a mapping network, also StyleGAN3's; see `generator_pairs`."""
    pairs: list[Pair] = []
    for index in count():
        found = _parts(present, "", "", {f"mapping.fc{index}": (f"mapping.layers.{index}", LINEAR)})
        if not found:
            break
        pairs += found
    pairs += _parts(present, "", "", {"mapping.embed": ("mapping.embedding", LINEAR)})
    if "mapping.w_avg" in present or "mapping.w_avg.value" in present:
        pairs.append(pair("mapping.w_avg", "mapping.w_avg.value"))
    return pairs


def mapping_options(state: State) -> dict[str, Any]:
    """Return the options of a generator that its mapping network tells."""
    num_layers = state.count(r"mapping\.fc(\d+)\.weight")
    embedded, classes = state.shape("mapping.embed.weight") if "mapping.embed.weight" in state else (0, 0)
    return {
        "classes": classes,
        "z_dim": state.shape("mapping.fc0.weight")[1] - embedded,
        "w_dim": state.shape(f"mapping.fc{num_layers - 1}.weight")[0],
        "mapping_layers": num_layers,
    }


def channel_options(widths: Mapping[int, int]) -> dict[str, Any]:
    """Return the base and maximum that give `min(base // side, maximum)` channels at each side."""
    maximum = max(widths.values())
    below = {side: width for side, width in widths.items() if width < maximum}
    return {"channel_base": max(side * width for side, width in (below or widths).items()), "channel_max": maximum}


def _parts(
    present: Container[str], theirs: str, ours: str, parts: Mapping[str, tuple[str, tuple[Pair, ...]]]
) -> list[Pair]:
    """Return the tables of those parts of a module that are present."""
    pairs = []
    for part, (own_part, table) in parts.items():
        name, own = (f"{prefix}.{last}" if prefix else last for prefix, last in ((theirs, part), (ours, own_part)))
        if f"{name}.weight" in present or (f"{own}.weight" in present and part not in _ONLY_READ):
            pairs += under(name, own, table)
    return pairs


def _sides(sides: list[int]) -> list[int]:
    if len(sides) < 2 or sides != [4 << index for index in range(len(sides))]:
        raise FrameworkError(f"blocks of sides {sides}; expected 4, 8, 16, ...")
    return sides


def _architecture(state: State, coarsest_image: str, shortcut: str) -> str:
    if coarsest_image in state:
        return "skip"
    return "resnet" if shortcut in state else "orig"


def _filter_option(state: State, name: str) -> dict[str, Any]:
    """Return the taps of the state's separable resampling filter as an option, unless they are the usual ones."""
    if name not in state or state[name].is_meta:
        return {}
    taps = state[name].double().sum(0) if state[name].dim() == 2 else state[name].double()
    taps = taps / taps.abs().min()
    rounded = [round(tap, 4) for tap in taps.tolist()]
    return {} if rounded == [1, 3, 3, 1] else {"resample_filter": rounded}
