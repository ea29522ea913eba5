"""The format of R3GAN, whose networks are saved alone or inside the wrapper of its training program (`Model.`).

`MainLayers` are the stages, from coarse to fine in the generator and the other way in the discriminator. Generators
begin a stage with its transition, discriminators end with it. Shapes tell all options.
"""

from __future__ import annotations

from typing import Any

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.names import Pair, dropped, pair, under
from framework.networks import r3gan

PLACES = Places(generator=("G", ""), average=("G_ema",), discriminator=("D", ""))

BLOCK = (
    pair("LinearLayer1.Layer.weight", "expand.weight"),
    pair("NonLinearity1.Bias", "bias1"),
    pair("LinearLayer2.Layer.weight", "grouped.weight"),
    pair("NonLinearity2.Bias", "bias2"),
    pair("LinearLayer3.Layer.weight", "project.weight"),
)
WRAPPER = "Model."


def generator(state: State) -> Blueprint:
    """Read `Basis` and its linear layer, stages, `AggregationLayer`, `EmbeddingLayer`."""
    root = _root(state)
    start, last = f"{root}MainLayers.0.Layers.0", f"{root}AggregationLayer.Layer.weight"
    embedding = f"{root}EmbeddingLayer.weight"
    embedding_dim, classes = state.shape(embedding) if embedding in state else (None, 0)
    pairs = [
        pair(f"{start}.Basis", "basis"),
        pair(f"{start}.LinearLayer.weight", "linear.weight"),
        pair(last, "to_image.weight"),
    ]
    if classes:
        pairs.append(pair(embedding, "embedding.weight"))
    count = _num_stages(state, root)
    for stage in range(count):
        theirs, ours = f"{root}MainLayers.{stage}", f"stages.{stage}"
        for index in _blocks(state, theirs):
            pairs += under(f"{theirs}.Layers.{index}", f"{ours}.{index if stage else index - 1}", BLOCK)
        if stage:
            pairs += _transition(state, f"{theirs}.Layers.0", f"{ours}.0")
    options = {
        "resolution": 2 << count,
        "channels": state.shape(last)[0],
        "classes": classes,
        "z_dim": state.shape(f"{start}.LinearLayer.weight")[1] - (embedding_dim or 0),
        "embedding_dim": embedding_dim,
        **_stages(state, [f"{root}MainLayers.{stage}" for stage in range(count)]),
    }
    return Blueprint(cls=r3gan.Generator, options=options, pairs=pairs)


def discriminator(state: State) -> Blueprint:
    """Read `ExtractionLayer`, stages, `Basis` and its linear layer at the end of the last, `EmbeddingLayer`."""
    root = _root(state)
    first, embedding = f"{root}ExtractionLayer.Layer.weight", f"{root}EmbeddingLayer.weight"
    embedding_dim, classes = state.shape(embedding) if embedding in state else (None, 0)
    pairs = [pair(first, "from_image.weight")]
    if classes:
        pairs.append(pair(embedding, "embedding.weight"))
    count = _num_stages(state, root)
    for stage in range(count):
        theirs, ours = f"{root}MainLayers.{stage}", f"stages.{stage}"
        blocks = _blocks(state, theirs)
        for index in blocks:
            pairs += under(f"{theirs}.Layers.{index}", f"{ours}.{index}", BLOCK)
        end = f"{theirs}.Layers.{len(blocks)}"
        if stage < count - 1:
            pairs += _transition(state, end, f"{ours}.{len(blocks)}")
        else:
            pairs += [pair(f"{end}.Basis.weight", "basis.weight"), pair(f"{end}.LinearLayer.weight", "linear.weight")]
    options = {
        "resolution": 2 << count,
        "channels": state.shape(first)[1],
        "classes": classes,
        "embedding_dim": embedding_dim,
        **_stages(state, [f"{root}MainLayers.{stage}" for stage in reversed(range(count))]),
    }
    return Blueprint(cls=r3gan.Discriminator, options=options, pairs=pairs)


def _root(state: State) -> str:
    return WRAPPER if any(name.startswith(WRAPPER) for name in state) else ""


def _num_stages(state: State, root: str) -> int:
    return state.count(rf"{root}MainLayers\.(\d+)\.")


def _blocks(state: State, stage: str) -> list[int]:
    return state.numbers(rf"{stage}\.Layers\.(\d+)\.LinearLayer1\.")


def _transition(state: State, theirs: str, ours: str) -> list[Pair]:
    """Return the pairs of a transition, which has a convolution if channels change."""
    name = f"{theirs}.LinearLayer.Layer.weight"
    return [dropped(f"{theirs}.Resampler.Kernel"), *([pair(name, f"{ours}.conv.weight")] if name in state else [])]


def _stages(state: State, stages: list[str]) -> dict[str, Any]:
    """Return the options of the stages, coarsest first: widths, numbers of blocks, groups, and the expansion."""
    blocks = {stage: _blocks(state, stage) for stage in stages}
    firsts = [f"{stage}.Layers.{blocks[stage][0]}" for stage in stages]
    grouped = [state.shape(f"{first}.LinearLayer2.Layer.weight") for first in firsts]
    widths = [state.shape(f"{first}.LinearLayer3.Layer.weight")[0] for first in firsts]
    return {
        "widths": widths,
        "num_blocks": [len(blocks[stage]) for stage in stages],
        "groups": [hidden // per_group for hidden, per_group, *_ in grouped],
        "expansion": grouped[0][0] // widths[0],
    }
