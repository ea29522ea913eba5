"""From a name on the command line to an engine, or a refusal that names the alternative."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from framework.engines.base import Engine, Precision
from framework.engines.errors import EngineError
from framework.engines.replicated import Replicated
from framework.recipe import EngineName, Player

__all__ = ["EngineError", "build_engine", "check"]

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
SHARDS_PARAMETERS = ("zero3", "fsdp2")


def check(
    name: EngineName, player: Player, *, side: str, device: torch.device, precision: Precision, world: int
) -> None:
    """Refuse at the start what would fail, or silently change, later.

    Raises:
        EngineError: with the alternative named.
    """
    if name != "ddp" and world == 1:
        raise EngineError(
            f"{side}: {name} shards over the processes of a launch, and this is one process; use --engine ddp, or "
            "start more with accelerate launch or torchrun"
        )
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise EngineError(f"{side}: this GPU has no bf16; use --precision fp16 or fp32")
    if precision == "fp16" and name in STAGES:
        raise EngineError(
            f"{side}: fp16 under DeepSpeed is not shown to train as one process does; use --precision bf16, or "
            "--engine fsdp2"
        )
    if player.frozen and name in SHARDS_PARAMETERS:
        raise EngineError(
            f"{side}: {name} does not keep parameters that are not trained (frozen={', '.join(player.frozen)}); "
            "use --engine zero2 or ddp for this player"
        )


def build_engine(network: nn.Module, player: Player, *, side: str, engine: EngineName, precision: Precision) -> Engine:
    """The engine for one player.

    Raises:
        EngineError: the engine cannot be used here.
    """
    name = player.engine or engine
    device = next(network.parameters()).device
    world = dist.get_world_size() if dist.is_initialized() else 1
    check(name, player, side=side, device=device, precision=precision, world=world)
    if name == "ddp":
        return Replicated(
            network, name=side, optimizer=player.optimizer, clip_norm=player.clip_norm, precision=precision
        )
    if name == "fsdp2":
        from framework.engines.sharded import Sharded

        return Sharded(network, name=side, optimizer=player.optimizer, clip_norm=player.clip_norm, precision=precision)
    from framework.engines.zero import Zero  # imports DeepSpeed

    return Zero(
        network,
        name=side,
        stage=STAGES[name],
        optimizer=player.optimizer,
        clip_norm=player.clip_norm,
        precision=precision,
    )
