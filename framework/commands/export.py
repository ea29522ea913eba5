"""`framework export --to KIND CHECKPOINT --out FILE`: a network of ours as another project's state dict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from safetensors.torch import save_file
from torch import nn

from framework.checkpoint import Checkpoint, resolve
from framework.describe import network_from
from framework.errors import FrameworkError
from framework.interop.export import export as state_of
from framework.interop.load import Side
from framework.quantities import format_count

SUFFIXES = (".safetensors", ".npz")


def export(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    *,
    to: Literal["nvlabs-stylegan2"],
    out: Path,
    side: Side = "generator",
    weights: Literal["ema", "raw"] = "ema",
) -> None:
    """Write a StyleGAN2's weights under the names of NVlabs' programs, as their `load_state_dict` takes them.

    Args:
        checkpoint: A checkpoint folder, or a run folder (its newest valid checkpoint).
        to: The project.
        out: File to write, .safetensors or .npz.
        side: The network.
        weights: Of the generator: the moving average (ema), or the weights as they were last trained (raw).
    """
    if out.suffix not in SUFFIXES:
        raise FrameworkError(f"--out {out}: the name must end in {' or '.join(SUFFIXES)}")
    averaged = side == "generator" and weights == "ema"
    state = state_of(to, _network(resolve(checkpoint, ema_only=averaged), side, averaged=averaged))
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        np.savez(out, **{name: tensor.numpy() for name, tensor in state.items()})  # type: ignore[arg-type]
    else:
        save_file(state, out)
    print(f"{out}: {len(state)} tensors, {format_count(sum(tensor.numel() for tensor in state.values()))} numbers")


@torch.no_grad()
def _network(checkpoint: Checkpoint, side: Side, *, averaged: bool) -> nn.Module:
    recipe = checkpoint.document("recipe.json")
    if side not in recipe:
        raise FrameworkError(f"{checkpoint.path} holds no {side}")
    network = network_from(recipe[side]["network"])
    weights, buffers = ("ema", "ema_buffer") if averaged else ("weight", "buffer")
    for kind, tensors in ((weights, network.named_parameters()), (buffers, network.named_buffers())):
        for name, tensor in tensors:
            tensor.copy_(checkpoint.full(f"{side}/{kind}/{name}"))
    return network
