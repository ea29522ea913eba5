"""The formats of SNGAN, SAGAN and BigGAN, which three projects write under different names; see `Dialect`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framework.interop.blueprint import Blueprint, State
from framework.interop.names import Pair, pair
from framework.interop.tables import attention, is_conditional, is_spectral, layer, norm, weight_shape
from framework.networks import biggan, sagan
from framework.networks.sizes import DISCRIMINATOR_MULTIPLES, GENERATOR_MULTIPLES
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """A project's names for the parts of residual networks."""

    linear: str
    """The generator's first layer."""
    final_norm: str
    to_image: str
    head: str
    """The discriminator's last layer."""
    embedding: str
    """The discriminator's embedding of labels."""
    shortcut: str
    convolution: str
    """A convolution of a block; its number is appended."""
    norm: str
    """A norm of a block; its number is appended."""
    attention: Mapping[str, str]
    """The names for theta, phi, g, o and gamma."""
    shared: str = "shared"
    """The class embedding that all layers of a BigGAN generator share."""
    embeds: bool = False
    """True if class-conditional gains without spectral norm are embeddings."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The places of a network's blocks."""

    blocks: Sequence[str]
    """The names of the blocks in the order of their use."""
    attention: str | None = None
    attention_after: int | None = None
    """The number of the block before the attention."""
    later_attention: Sequence[str] = ()
    """The attentions after every later block, if there are any."""


def generator(state: State, dialect: Dialect, layout: Layout, **options: Any) -> Blueprint:
    """Return the blueprint of SAGAN's generator, or of BigGAN's if there is a shared class embedding."""
    # Options from shapes.
    widths = [weight_shape(state, f"{block}.{dialect.convolution}1")[1] for block in layout.blocks]
    widths.append(weight_shape(state, dialect.to_image)[1])
    resolution = math.isqrt(weight_shape(state, dialect.linear)[0] // widths[0]) << len(layout.blocks)
    spectral = is_spectral(state, dialect.linear)
    shared = f"{dialect.shared}.weight" in state
    first_norm = f"{layout.blocks[0]}.{dialect.norm}1"
    labels = _shared_labels if shared else _own_labels
    attended = layout.attention_after
    inferred = {
        "resolution": resolution,
        "channels": weight_shape(state, dialect.to_image)[0],
        **labels(state, dialect, first_norm, num_blocks=len(layout.blocks)),
        **multiples(widths, GENERATOR_MULTIPLES.get(resolution)),
        "attention_at": None if attended is None else resolution >> (len(layout.blocks) - 1 - attended),
        "spectral": spectral,
    }
    # The name map.
    pairs = layer(state, dialect.linear, "linear")
    for index, block in enumerate(layout.blocks):
        pairs += _generator_block(state, dialect, block, f"blocks.{index}")
    if layout.attention is not None:
        pairs += attention(state, layout.attention, dialect.attention)
    pairs += norm(state, dialect.final_norm, "norm")
    pairs += layer(state, dialect.to_image, "to_image")
    if shared:
        pairs.append(pair(f"{dialect.shared}.weight", "embedding.weight"))
    cls = biggan.Generator if shared else sagan.Generator
    return Blueprint(cls=cls, options={**inferred, **options}, pairs=pairs)


def discriminator(state: State, dialect: Dialect, layout: Layout, **options: Any) -> Blueprint:
    """Return the blueprint of a discriminator that sums or averages its last features, with labels by projection."""
    # Options from shapes.
    convolutions = [weight_shape(state, f"{block}.{dialect.convolution}1") for block in layout.blocks]
    widths = [weight_shape(state, f"{block}.{dialect.convolution}2")[0] for block in layout.blocks]
    # All blocks halve the resolution but the last one, or the last two of four.
    resolution = options.get("resolution") or (32 if len(widths) == 4 else 2 << len(widths))
    hidden = "output"
    if convolutions[0][0] != widths[0]:
        hidden = "input_throughout"
    elif any(convolution[0] != width for convolution, width in zip(convolutions, widths, strict=True)):
        hidden = "input"
    spectral = is_spectral(state, f"{layout.blocks[0]}.{dialect.convolution}1")
    classes = weight_shape(state, dialect.embedding)[0] if _has(state, dialect.embedding) else 0
    inferred = {
        "resolution": resolution,
        "channels": convolutions[0][1],
        "classes": classes,
        **multiples(widths, DISCRIMINATOR_MULTIPLES.get(resolution)),
        "hidden": hidden,
        "attention_at": None if layout.attention_after is None else resolution >> (layout.attention_after + 1),
        "attention_repeats": bool(layout.later_attention),
        "spectral": spectral,
        "head_spectral": is_spectral(state, dialect.head),
    }
    # The name map.
    pairs = [
        each for i, b in enumerate(layout.blocks) for each in _discriminator_block(state, dialect, b, f"blocks.{i}")
    ]
    if layout.attention is not None:
        pairs += attention(state, layout.attention, dialect.attention)
    for index, later in enumerate(layout.later_attention):
        pairs += attention(state, later, dialect.attention, ours=f"later_attention.{index}")
    pairs += layer(state, dialect.head, "linear")
    if classes:
        pairs += layer(state, dialect.embedding, "embedding", bias=False)
    return Blueprint(cls=sagan.Discriminator, options={**inferred, **options}, pairs=pairs)


def multiples(widths: Sequence[int], table: Sequence[int] | None) -> dict[str, Any]:
    """Return the options `width`, and `multiples` if they are not those of the table."""
    if table is not None and len(table) == len(widths):
        width, rest = divmod(widths[0], table[0])
        if not rest and list(widths) == [width * multiple for multiple in table]:
            return {"width": width}
    width = math.gcd(*widths)
    return {"width": width, "multiples": [each // width for each in widths]}


def has_shortcut(state: State, dialect: Dialect, block: str) -> bool:
    """Return whether a block's shortcut is a convolution."""
    return _has(state, f"{block}.{dialect.shortcut}")


def one_attention(numbers: Sequence[int]) -> int | None:
    """Return the only number; None if there is none.

    Raises:
        FrameworkError: there are several.
    """
    if len(numbers) > 1:
        raise FrameworkError(f"attention at {len(numbers)} places; our networks have one")
    return numbers[0] if numbers else None


def _generator_block(state: State, dialect: Dialect, theirs: str, ours: str) -> list[Pair]:
    pairs = layer(state, f"{theirs}.{dialect.shortcut}", f"{ours}.shortcut")
    for number in (1, 2):
        pairs += layer(state, f"{theirs}.{dialect.convolution}{number}", f"{ours}.conv{number}")
        theirs_norm, ours_norm = f"{theirs}.{dialect.norm}{number}", f"{ours}.norm{number}"
        pairs += norm(state, theirs_norm, ours_norm, embeds=dialect.embeds and f"{dialect.shared}.weight" not in state)
    return pairs


def _discriminator_block(state: State, dialect: Dialect, theirs: str, ours: str) -> list[Pair]:
    pairs = (
        layer(state, f"{theirs}.{dialect.shortcut}", f"{ours}.shortcut") if has_shortcut(state, dialect, theirs) else []
    )
    for number in (1, 2):
        pairs += layer(state, f"{theirs}.{dialect.convolution}{number}", f"{ours}.conv{number}")
    return pairs


def _own_labels(state: State, dialect: Dialect, first_norm: str, *, num_blocks: int) -> dict[str, Any]:
    """Return the options of a generator whose labels, if any, act on each batch norm by maps of its own."""
    options = {"z_dim": weight_shape(state, dialect.linear)[1]}
    if not is_conditional(state, first_norm):
        return {"classes": 0, **options}
    if f"{first_norm}.embed.weight" in state:
        return {"classes": state.shape(f"{first_norm}.embed.weight")[0], "conditional_spectral": False, **options}
    spectral = is_spectral(state, f"{first_norm}.gain")
    embedded = dialect.embeds and not spectral
    classes = weight_shape(state, f"{first_norm}.gain")[0 if embedded else 1]
    return {"classes": classes, "conditional_spectral": spectral, **options}


def _shared_labels(state: State, dialect: Dialect, first_norm: str, *, num_blocks: int) -> dict[str, Any]:
    """Return the options of a generator with one class embedding, whose norms may see a chunk of the latent each."""
    classes, shared_dim = state.shape(f"{dialect.shared}.weight")
    first = weight_shape(state, dialect.linear)[1]
    hierarchical = weight_shape(state, f"{first_norm}.gain")[1] > shared_dim
    z_dim = first * (num_blocks + 1) if hierarchical else first
    return {"classes": classes, "shared_dim": shared_dim, "hierarchical": hierarchical, "z_dim": z_dim}


def _has(state: State, theirs: str) -> bool:
    return f"{theirs}.weight" in state or f"{theirs}.weight_orig" in state
