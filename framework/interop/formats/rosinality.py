"""The format of rosinality's stylegan2-pytorch.

It is the same network as NVlabs': modulated weights have a first dimension of 1, biases of colours are images, and
layers are numbered through. It keeps no mean style but averages styles when it samples; reading a state does so once.
"""

from __future__ import annotations

from typing import Any

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.formats.stylegan2 import channel_options
from framework.interop.names import Change, Pair, dropped, pair, under
from framework.networks import stylegan2
from framework.utils.errors import FrameworkError

PLACES = Places(generator=("g", ""), average=("g_ema",), discriminator=("d", ""))

OPTIONS = {"discriminator": {"stddev_group": "stddev_group_size"}}

UNBATCHED = Change(read=lambda tensor: (tensor.squeeze(0),), write=lambda tensor: tensor.unsqueeze(0))
"""The change that removes their first dimension, (1, ...) to (...)."""
COLOURS = Change(read=lambda tensor: (tensor.flatten(),), write=lambda tensor: tensor.view(1, -1, 1, 1))
IMAGE = Change(read=lambda tensor: (tensor.view(tensor.shape[-2:]),), write=lambda tensor: tensor[None, None])

LINEAR = (pair("weight", "weight"), pair("bias", "bias"))
STYLED_CONVOLUTION = (
    pair("conv.weight", "weight", UNBATCHED),
    pair("conv.modulation.weight", "style.weight"),
    pair("conv.modulation.bias", "style.bias"),
    dropped("conv.blur.kernel"),
    pair("noise.weight", "noise_strength"),
    pair("activate.bias", "bias"),
)
TO_IMAGE = (
    pair("conv.weight", "weight", UNBATCHED),
    pair("conv.modulation.weight", "style.weight"),
    pair("conv.modulation.bias", "style.bias"),
    pair("bias", "bias", COLOURS),
    dropped("upsample.kernel"),
)


def generator(state: State) -> Blueprint:
    """Read `style`, `input`, `conv1`, `to_rgb1`, `convs`, `to_rgbs`, `noises`."""
    count = state.count(r"to_rgbs\.(\d+)\.")
    sides = [4 << index for index in range(count + 1)]
    layers = ["conv1", *(f"convs.{index}" for index in range(2 * count))]
    colours = ["to_rgb1", *(f"to_rgbs.{index}" for index in range(count))]
    # style.0 is pixel norm, without parameters.
    depth = len(state.numbers(r"style\.(\d+)\.weight"))
    pairs = [pair("input.input", "synthesis.blocks.4.const", UNBATCHED)]
    for index in range(depth):
        pairs += under(f"style.{index + 1}", f"mapping.layers.{index}", LINEAR)
    for number, theirs in enumerate(layers):
        ours = f"synthesis.blocks.{sides[(number + 1) // 2]}.conv{1 if number % 2 == 0 else 0}"
        pairs += under(theirs, ours, STYLED_CONVOLUTION)
        pairs.append(pair(f"noises.noise_{number}", f"{ours}.noise_const", IMAGE))
    for side, theirs in zip(sides, colours, strict=True):
        pairs += under(theirs, f"synthesis.blocks.{side}.to_image", TO_IMAGE)
    widths = {side: state.shape(f"{theirs}.conv.weight")[2] for side, theirs in zip(sides, colours, strict=True)}
    options: dict[str, Any] = {
        "resolution": sides[-1],
        "channels": state.shape("to_rgb1.conv.weight")[1],
        "z_dim": state.shape("style.1.weight")[1],
        "w_dim": state.shape(f"style.{depth}.weight")[0],
        "mapping_layers": depth,
        **channel_options(widths),
    }
    return Blueprint(cls=stylegan2.Generator, options=options, pairs=pairs, averages_styles=True)


def discriminator(state: State) -> Blueprint:
    """Read `convs.0` from colours, residual blocks `convs.N`, `final_conv`, `final_linear`.

    Raises:
        FrameworkError: there are no residual blocks, or a number is missing.
    """
    count = state.count(r"convs\.(\d+)\.") - 1
    if count < 1:
        raise FrameworkError("no residual blocks convs.1, convs.2, ...")
    sides = [4 << index for index in range(count, 0, -1)]
    first = f"blocks.{sides[0]}.from_image"
    pairs = [pair("convs.0.0.weight", f"{first}.weight"), pair("convs.0.1.bias", f"{first}.bias")]
    for number, side in enumerate(sides, start=1):
        pairs += under(f"convs.{number}", f"blocks.{side}", _block())
    pairs += [
        pair("final_conv.0.weight", "head.conv.weight"),
        pair("final_conv.1.bias", "head.conv.bias"),
        *under("final_linear.0", "head.hidden", LINEAR),
        *under("final_linear.1", "head.output", LINEAR),
    ]
    widths = {side: state.shape(f"convs.{number}.conv1.0.weight")[0] for number, side in enumerate(sides, start=1)}
    widths[4], with_stddev = state.shape("final_conv.0.weight")[:2]
    options = {
        "resolution": sides[0],
        "channels": state.shape("convs.0.0.weight")[1],
        **channel_options(widths),
        "stddev_features": with_stddev - widths[4],
    }
    return Blueprint(cls=stylegan2.Discriminator, options=options, pairs=pairs)


def _block() -> list[Pair]:
    return [
        pair("conv1.0.weight", "conv0.weight"),
        pair("conv1.1.bias", "conv0.bias"),
        dropped("conv2.0.kernel"),
        pair("conv2.1.weight", "conv1.weight"),
        pair("conv2.2.bias", "conv1.bias"),
        dropped("skip.0.kernel"),
        pair("skip.1.weight", "shortcut.weight"),
    ]
