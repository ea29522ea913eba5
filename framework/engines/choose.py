"""From a name on the command line to an engine, or a refusal that names the alternative."""

from __future__ import annotations

import torch
from torch import nn

from framework.engines.base import Engine, Precision
from framework.engines.replicated import Replicated
from framework.errors import FrameworkError
from framework.recipe import EngineName, Player


class EngineError(FrameworkError):
    """The chosen engine cannot do what the recipe asks on this machine."""


AVAILABLE: tuple[EngineName, ...] = ("ddp",)


def check(name: EngineName, *, side: str, device: torch.device, precision: Precision) -> None:
    """Refuse at the start what would fail, or silently change, later.

    Raises:
        EngineError: with the alternative named.
    """
    if name not in AVAILABLE:
        raise EngineError(
            f"{side}: the engine {name!r} is not part of this version; use --engine ddp, which trains the same "
            "recipe with whole copies of the networks on every process."
        )
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise EngineError(f"{side}: this GPU has no bf16; use --precision fp16 or fp32")


def build_engine(network: nn.Module, player: Player, *, side: str, engine: EngineName, precision: Precision) -> Engine:
    """The engine for one player.

    Raises:
        EngineError: the engine cannot be used here.
    """
    name = player.engine or engine
    device = next(network.parameters()).device
    check(name, side=side, device=device, precision=precision)
    return Replicated(network, name=side, optimizer=player.optimizer, clip_norm=player.clip_norm, precision=precision)
