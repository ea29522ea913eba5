"""An imported network as a checkpoint of ours, for `framework sample`, fine-tuning and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from framework.checkpoint import Retention, TensorSlice, Writer
from framework.interop.load import Loaded, Side
from framework.recipe.description import describe_network
from framework.utils.errors import FrameworkError

FOLDER = "checkpoints"
"""The name of the folder, the same as in a run's folder."""


def write_folder(
    out: Path,
    *,
    generator: Loaded,
    average: Loaded | None = None,
    discriminator: Loaded | None = None,
    source: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of 0 images into `<out>/checkpoints` and return its folder.

    Args:
        out: a new folder, or an empty one.
        generator: the network whose weights become `generator/weight/...`.
        average: the generator's moving average, `generator/ema/...`; None: the generator itself.
        discriminator: the network whose weights become `discriminator/weight/...`, if there is one.
        source: the origin of the weights, for the document `recipe.json`.

    Raises:
        FrameworkError: the folder is not empty, or generator and average are not the same network.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FrameworkError(f"{out} exists: choose a new folder")
    average = average or generator
    described = {"generator": describe_network(generator.description)}
    if describe_network(average.description) != described["generator"]:
        raise FrameworkError("the generator and its moving average are different networks")
    if discriminator is not None:
        described["discriminator"] = describe_network(discriminator.description)
    options = described["generator"]["options"]
    recipe = {
        "name": out.name,
        "imported": dict(source),
        "data": {name: options.get(name, default) for name, default in _DATA.items()},
        **{side: {"network": network} for side, network in described.items()},
    }
    pieces = [
        *_pieces("generator", generator.network, "weight", "buffer"),
        *_pieces("generator", average.network, "ema", "ema_buffer"),
        *(() if discriminator is None else _pieces("discriminator", discriminator.network, "weight", "buffer")),
    ]
    with Writer(out / FOLDER, rank=0, world=1, token="import", retention=Retention(last=None)) as writer:
        writer.save(0, pieces, documents={"recipe.json": recipe}, record={})
        saved = writer.wait()
    assert saved is not None
    return saved.path


_DATA = {"resolution": 0, "channels": 3, "classes": 0}
"""Options that a recipe's networks take from its data, and their defaults."""


def _pieces(side: Side, network: nn.Module, weights: str, buffers: str) -> Iterator[TensorSlice]:
    for kind, tensors in ((weights, network.named_parameters()), (buffers, network.named_buffers())):
        for name, tensor in tensors:
            values = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
            yield TensorSlice(key=f"{side}/{kind}/{name}", start=0, values=values.flatten(), shape=tuple(tensor.shape))
