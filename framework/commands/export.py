"""`framework export --to KIND CHECKPOINT --out PLACE`: a network of ours for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import nn

from framework.checkpoint import Checkpoint, resolve
from framework.checkpoint.tensorfile import save_tensors
from framework.interop.export import export as state_of
from framework.interop.huggingface import write_folder
from framework.interop.load import Side
from framework.recipe.description import network_from
from framework.sampling.classes import network_classes
from framework.utils.bounded import decoding
from framework.utils.budget import Budget
from framework.utils.errors import FrameworkError
from framework.utils.flags import LocalPath
from framework.utils.quantities import format_count
from framework.utils.ranges import Range

SUFFIXES = (".safetensors", ".npz")


def export(
    checkpoint: Annotated[LocalPath, tyro.conf.Positional],
    *,
    to: Literal["huggingface", "nvlabs-stylegan2"],
    out: LocalPath,
    side: Side = "generator",
    weights: Literal["ema", "raw"] = "ema",
    max_file_gb: Annotated[float, Range(above=0, most=1e9)] = 5.0,
    network: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
) -> None:
    """Write a network for other programs.

    `huggingface`: any network, under our names, as model-00001-of-000NN.safetensors with an index and a config.json.
    `nvlabs-stylegan2`: a StyleGAN2 under the names of NVlabs' programs, as their `load_state_dict` takes them.

    Args:
        checkpoint: A checkpoint folder, or a run folder (its newest valid checkpoint).
        to: For whom.
        out: huggingface: new folder; nvlabs-stylegan2: file to write, .safetensors or .npz.
        side: The network.
        weights: Of the generator: the moving average (ema), or the weights as they were last trained (raw).
        max_file_gb: huggingface: a file is closed before it would be larger than this.
        network: FILE.py:CLASS of a network class of your own, for example my_recipe.py:Generator; imports the file.
    """
    averaged = side == "generator" and weights == "ema"
    if to == "huggingface":
        found = resolve(checkpoint, ema_only=averaged)
        files = write_folder(found, out, side=side, averaged=averaged, max_file_bytes=int(max_file_gb * 1e9))
        print(f"{out}: {side} at {format_count(found.images_seen)} images in {len(files)} file(s)")
        return
    if out.suffix not in SUFFIXES:
        raise FrameworkError(f"--out {out}: the name must end in {' or '.join(SUFFIXES)}")
    found = resolve(checkpoint, ema_only=averaged)
    state = state_of(to, _network(found, side, averaged=averaged, classes=network_classes(network)))
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        np.savez(out, **{name: tensor.numpy() for name, tensor in state.items()})  # type: ignore[arg-type]
    else:
        save_tensors(out, state, metadata={})
    print(f"{out}: {len(state)} tensors, {format_count(sum(tensor.numel() for tensor in state.values()))} numbers")


@torch.no_grad()
def _network(
    checkpoint: Checkpoint, side: Side, *, averaged: bool, classes: Mapping[str, type[nn.Module]]
) -> nn.Module:
    recipe = checkpoint.document("recipe.json")
    if side not in recipe:
        raise FrameworkError(f"{checkpoint.path} holds no {side}")
    budget = Budget.of(checkpoint.shape(key) for key in checkpoint.keys(f"{side}/"))
    with decoding(checkpoint.path / "recipe.json"):
        network = network_from(recipe[side]["network"], budget=budget, classes=classes)
    weights, buffers = ("ema", "ema_buffer") if averaged else ("weight", "buffer")
    for kind, tensors in ((weights, network.named_parameters()), (buffers, network.named_buffers())):
        for name, tensor in tensors:
            tensor.copy_(checkpoint.full(f"{side}/{kind}/{name}"))
    return network
