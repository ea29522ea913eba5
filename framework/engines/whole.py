"""Whole tensors of a player's state on every process, for games that compute with them as functions do."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from framework.engines.base import Engine
from framework.runtime.collectives import sum_over_processes


@torch.no_grad()
def whole_tensors(engine: Engine, kinds: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Return copies of weights, or of moments, by kind and by the parameter's name, in its shape.

    All parameters must be trained. A collective where the engine shards the player.

    Args:
        engine: the player's.
        kinds: `weight`, or names of the optimiser's moments.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for kind in kinds:
        named = dict(engine.network.named_parameters())
        whole = {name: torch.zeros(p.numel(), dtype=p.dtype, device=p.device) for name, p in named.items()}
        for part in engine.slices(own=False, kinds=(kind,)):
            whole[part.name][part.start : part.start + part.values.numel()] = part.values
        if engine.collective_forward:  # each process has filled in what it holds
            flat = sum_over_processes(torch.cat(list(whole.values())))
            whole = dict(zip(whole, flat.split([tensor.numel() for tensor in whole.values()]), strict=True))
        found[kind] = {name: whole[name].view(p.shape) for name, p in named.items()}
    return found
