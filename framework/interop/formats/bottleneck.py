"""The formats of BigGAN-deep, whose blocks are numbered by stage or all through; see `resnets.Dialect`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from framework.interop.blueprint import Blueprint, State
from framework.interop.formats.resnets import Dialect, Layout, has_shortcut
from framework.interop.names import pair
from framework.interop.tables import attention, is_spectral, layer, norm, weight_shape
from framework.networks import biggan_deep
from framework.networks.sizes import DISCRIMINATOR_MULTIPLES, GENERATOR_MULTIPLES
from framework.utils.errors import FrameworkError

_CONVOLUTIONS = (1, 2, 3, 4)
"""The numbers of the convolutions of a block, and of the norms before them."""


def generator(state: State, dialect: Dialect, layout: Layout, **options: Any) -> Blueprint:
    """Read `shared`, a linear layer, bottlenecks, norm and convolution.

    Raises:
        FrameworkError: the channels belong to no known BigGAN-deep.
    """
    # Options from shapes.
    last = f"{dialect.convolution}{_CONVOLUTIONS[-1]}"
    widths = [weight_shape(state, f"{block}.{last}")[0] for block in layout.blocks]
    final = weight_shape(state, dialect.to_image)[1]
    outputs, condition = weight_shape(state, dialect.linear)
    first = weight_shape(state, f"{layout.blocks[0]}.{dialect.convolution}1")[1]
    shared = f"{dialect.shared}.weight" in state
    classes, shared_dim = state.shape(f"{dialect.shared}.weight") if shared else (0, 0)
    resolution, width, depth = _fitting(GENERATOR_MULTIPLES, [first, *widths], growing=True)
    if math.isqrt(outputs // first) != 4 or final != widths[-1]:
        raise FrameworkError("the first or last layer does not fit the blocks between them")
    inferred = {
        "resolution": resolution,
        "channels": weight_shape(state, dialect.to_image)[0],
        "classes": classes,
        "z_dim": condition - shared_dim,
        **({"shared_dim": shared_dim} if shared else {}),
        "width": width,
        "depth": depth,
        "attention_at": None if layout.attention_after is None else 8 << (layout.attention_after // depth),
        "spectral": is_spectral(state, dialect.linear),
    }
    # The name map.
    pairs = layer(state, dialect.linear, "linear")
    for index, block in enumerate(layout.blocks):
        for number in _CONVOLUTIONS:
            pairs += layer(state, f"{block}.{dialect.convolution}{number}", f"blocks.{index}.conv{number}")
            pairs += norm(state, f"{block}.{dialect.norm}{number}", f"blocks.{index}.norm{number}")
    if layout.attention is not None:
        pairs += attention(state, layout.attention, dialect.attention)
    if shared:
        pairs.append(pair(f"{dialect.shared}.weight", "embedding.weight"))
    pairs += [*norm(state, dialect.final_norm, "norm"), *layer(state, dialect.to_image, "to_image")]
    return Blueprint(cls=biggan_deep.Generator, options={**inferred, **options}, pairs=pairs)


def discriminator(state: State, dialect: Dialect, layout: Layout, **options: Any) -> Blueprint:
    """Read `input_conv`, bottlenecks, a linear layer and an embedding of labels.

    Raises:
        FrameworkError: the channels belong to no known BigGAN-deep.
    """
    # Options from shapes.
    last = f"{dialect.convolution}{_CONVOLUTIONS[-1]}"
    first, channels = weight_shape(state, "input_conv")[:2]
    widths = [weight_shape(state, f"{block}.{last}")[0] for block in layout.blocks]
    resolution, width, depth = _fitting(DISCRIMINATOR_MULTIPLES, [first, *widths], growing=False)
    labelled = f"{dialect.embedding}.weight" in state or f"{dialect.embedding}.weight_orig" in state
    attended = layout.attention_after
    inferred = {
        "resolution": resolution,
        "channels": channels,
        "classes": weight_shape(state, dialect.embedding)[0] if labelled else 0,
        "width": width,
        "depth": depth,
        "attention_at": None if attended is None else resolution >> (attended // depth + 1),
        "spectral": is_spectral(state, dialect.head),
    }
    # The name map.
    pairs = layer(state, "input_conv", "from_image")
    for index, block in enumerate(layout.blocks):
        for number in _CONVOLUTIONS:
            pairs += layer(state, f"{block}.{dialect.convolution}{number}", f"blocks.{index}.conv{number}")
        if has_shortcut(state, dialect, block):
            pairs += layer(state, f"{block}.{dialect.shortcut}", f"blocks.{index}.shortcut")
    if layout.attention is not None:
        pairs += attention(state, layout.attention, dialect.attention)
    pairs += layer(state, dialect.head, "linear")
    if labelled:
        pairs += layer(state, dialect.embedding, "embedding", bias=False)
    return Blueprint(cls=biggan_deep.Discriminator, options={**inferred, **options}, pairs=pairs)


def _fitting(tables: dict[int, tuple[int, ...]], widths: Sequence[int], *, growing: bool) -> tuple[int, int, int]:
    """Return the resolution, width and depth that give the blocks these channels, after those of the first feature map.

    A generator's channels change in the last block of a stage, a discriminator's in the first.
    """
    for resolution, table in tables.items():
        width, depth = widths[-1] // table[-1], (len(widths) - 1) // (len(table) - 1)
        expected = [table[0]]
        for before, after in pairwise(table):
            kept = [before if growing else after] * (depth - 1)
            expected += [*kept, after] if growing else [after, *kept]
        if width and [width * multiple for multiple in expected] == list(widths):
            return resolution, width, depth
    raise FrameworkError(f"channels {list(widths)} belong to no known BigGAN-deep")
