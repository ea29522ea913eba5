"""The format of pytorch_GAN_zoo's ProGAN.

Its equalised layers compute `c (W x + b)`, ours `c W x + b`: biases change by the layer's constant c, He's sqrt(2) /
sqrt(fan-in) everywhere. A network that has not grown to its end has only the layers up to its resolution.
"""

from __future__ import annotations

import math

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.names import Change, Pair, pair
from framework.networks import progan
from framework.utils.errors import FrameworkError

PLACES = Places(generator=("netG",), average=("avgG",), discriminator=("netD",))

HE = math.sqrt(2)


def generator(state: State) -> Blueprint:
    """Read `formatLayer`, `groupScale0`, `scaleLayers` from coarse to fine, `toRGBLayers`."""
    num_blocks = len(state.numbers(r"scaleLayers\.(\d+)\."))
    latent_dim = state.shape("formatLayer.module.weight")[1]
    channels, coarsest = state.shape("toRGBLayers.0.module.weight")[:2]
    pairs = [
        pair("formatLayer.module.weight", "start.dense.weight"),
        pair("formatLayer.module.bias", "start.bias", _scaled(HE / math.sqrt(latent_dim), shape=(coarsest, 4, 4))),
        *_equalised(state, "groupScale0.0", "start.conv"),
    ]
    for index in range(num_blocks):
        pairs += _equalised(state, f"scaleLayers.{index}.0", f"blocks.{index}.conv1")
        pairs += _equalised(state, f"scaleLayers.{index}.1", f"blocks.{index}.conv2")
    for index in range(num_blocks + 1):
        pairs += _equalised(state, f"toRGBLayers.{index}", f"to_rgb.{index}")
    widths = [state.shape(f"toRGBLayers.{index}.module.weight")[1] for index in range(num_blocks + 1)]
    options = {
        "resolution": 4 << num_blocks,
        "channels": channels,
        "z_dim": latent_dim,
        "widths": widths,
        "to_rgb_gain": HE,
        "input_gain": HE,
        "bias_per_pixel": True,
    }
    return Blueprint(cls=progan.Generator, options=options, pairs=pairs)


def discriminator(state: State) -> Blueprint:
    """Read `fromRGBLayers` and `scaleLayers` from coarse to fine, `groupScaleZero`, `decisionLayer`.

    Raises:
        FrameworkError: it has more than one output, as an AC-GAN's.
    """
    num_blocks = len(state.numbers(r"scaleLayers\.(\d+)\."))
    num_logits = state.shape("decisionLayer.module.weight")[0]
    if num_logits != 1:
        raise FrameworkError(f"gan-zoo-progan: {num_logits} outputs; AC-GAN discriminators cannot be represented")
    pairs = [
        *_equalised(state, "groupScaleZero.0", "end.conv"),
        *_equalised(state, "groupScaleZero.1", "end.dense"),
        *_equalised(state, "decisionLayer", "end.output"),
    ]
    for index in range(num_blocks):
        pairs += _equalised(state, f"scaleLayers.{index}.0", f"blocks.{index}.conv1")
        pairs += _equalised(state, f"scaleLayers.{index}.1", f"blocks.{index}.conv2")
    for index in range(num_blocks + 1):
        pairs += _equalised(state, f"fromRGBLayers.{index}", f"from_rgb.{index}")
    coarsest, with_stddev = state.shape("groupScaleZero.0.module.weight")[:2]
    options = {
        "resolution": 4 << num_blocks,
        "channels": state.shape("fromRGBLayers.0.module.weight")[1],
        "widths": [state.shape(f"fromRGBLayers.{index}.module.weight")[0] for index in range(num_blocks + 1)],
        "group_size": 4 if with_stddev > coarsest else 0,
        "grouping": "contiguous",
        "unbiased_stddev": True,
        "output_gain": HE,
    }
    return Blueprint(cls=progan.Discriminator, options=options, pairs=pairs)


def _equalised(state: State, theirs: str, ours: str) -> list[Pair]:
    fan_in = math.prod(state.shape(f"{theirs}.module.weight")[1:])
    return [
        pair(f"{theirs}.module.weight", f"{ours}.weight"),
        pair(f"{theirs}.module.bias", f"{ours}.bias", _scaled(HE / math.sqrt(fan_in))),
    ]


def _scaled(factor: float, *, shape: tuple[int, ...] = (-1,)) -> Change:
    return Change(
        read=lambda tensor: ((tensor * factor).view(shape),),
        write=lambda tensor: tensor.flatten() / factor,
    )
