"""Build the engine that a command line names, or refuse with the alternative named."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from framework.engines.base import Engine, Precision
from framework.engines.capabilities import Case, refusal
from framework.engines.ddp import DDPEngine
from framework.engines.errors import EngineError
from framework.engines.optimizer_trial import try_out
from framework.engines.weight_clipping import WeightClipping
from framework.recipe import EngineName, Player

__all__ = ["EngineError", "build_engine", "check"]

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}


def check(
    name: EngineName,
    player: Player,
    *,
    side: str,
    device: torch.device,
    precision: Precision,
    world: int,
    network: nn.Module | None = None,
    looked_ahead: bool = False,
) -> None:
    """Refuse at the start what would fail, or silently change, later; `capabilities.REFUSALS` is the whole list.

    Args:
        network: the player's network, once it is built.
        looked_ahead: whether the game takes this player's optimiser steps as functions.

    Raises:
        EngineError: the engine cannot do this; the message names the alternative.
    """
    try:
        trial = try_out(player.optimizer)
    except EngineError as error:
        raise EngineError(f"{side}.optimizer: {error}") from None
    case = Case(
        engine=name,
        precision=precision,
        world=world,
        device_has_bf16=device.type != "cuda" or torch.cuda.is_bf16_supported(),
        frozen=player.frozen,
        looked_ahead=looked_ahead,
        whole_tensors=None if trial.elementwise else type(player.optimizer).__name__,
        scalars=tuple(n for n, p in network.named_parameters() if p.dim() == 0) if network is not None else (),
    )
    reason = refusal(case)
    if reason is not None:
        raise EngineError(f"{side}: {reason}")


def build_engine(
    network: nn.Module,
    player: Player,
    *,
    side: str,
    engine: EngineName,
    precision: Precision,
    looked_ahead: bool = False,
) -> Engine:
    """Build the engine of one player.

    Args:
        network: the player's network, on its device.
        player: the recipe's player; its own `engine` takes precedence over the argument.
        side: the player's name.
        looked_ahead: whether the game takes this player's optimiser steps as functions.

    Raises:
        EngineError: the engine cannot be used here.
    """
    name = player.engine or engine
    device = next(network.parameters()).device
    world = dist.get_world_size() if dist.is_initialized() else 1
    check(
        name,
        player,
        side=side,
        device=device,
        precision=precision,
        world=world,
        network=network,
        looked_ahead=looked_ahead,
    )
    options: dict[str, Any] = {
        "name": side,
        "optimizer": player.optimizer,
        "clip_norm": player.clip_norm,
        "weight_clipping": WeightClipping(player.clip_weights, when=player.clip_weights_when),
        "precision": precision,
    }
    if name == "ddp":
        return DDPEngine(network, **options)
    if name == "fsdp2":
        from framework.engines.fsdp2 import FSDP2Engine

        return FSDP2Engine(network, **options)
    from framework.engines.zero import ZeroEngine  # imports DeepSpeed

    return ZeroEngine(network, stage=STAGES[name], **options)
