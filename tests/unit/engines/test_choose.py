"""Which engine takes what, decided before anything starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from framework.engines.choose import EngineError, check
from framework.engines.fsdp2 import units
from framework.networks import biggan, r3gan, sagan, stylegan2, stylegan3
from framework.recipe import Player
from tests.helpers.play import small_recipe

CPU: dict[str, Any] = {"side": "generator", "device": torch.device("cpu"), "precision": "fp32", "world": 2}
PLAYER = small_recipe().generator


@pytest.mark.parametrize("name", ["ddp", "zero1", "zero2", "zero3", "fsdp2"])
def test_every_engine_takes_every_precision(name: Any) -> None:
    for precision in ("fp32", "bf16", "fp16"):
        check(name, PLAYER, **CPU | {"precision": precision})


@pytest.mark.parametrize(
    ("name", "player", "changes", "message"),
    [
        ("zero1", PLAYER, {"world": 1}, "generator: zero1 shards over .* one process; use --engine ddp"),
        ("fsdp2", PLAYER, {"world": 1}, "use --engine ddp"),
        ("zero3", replace(PLAYER, frozen=("linear",)), {}, r"frozen=linear\); use --engine zero2 or ddp"),
        ("fsdp2", replace(PLAYER, frozen=("linear",)), {}, "not trained"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_with_the_alternative(
    name: Any, player: Player, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        check(name, player, **CPU | changes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sagan.Generator(resolution=32, width=2, classes=3, attention_at=16),
        lambda: biggan.Discriminator(resolution=32, width=8, classes=3, attention_at=16),
        lambda: stylegan2.Generator(resolution=16, channel_base=64, classes=3),
        lambda: stylegan2.Discriminator(resolution=16, channel_base=64, classes=3),
        lambda: stylegan3.Generator(resolution=32, channel_base=64, num_layers=4),
        lambda: r3gan.Generator(resolution=16, widths=(8, 8, 8), groups=(2, 2, 2)),
    ],
)
def test_every_network_can_be_sharded(make: Any) -> None:
    """FSDP2 cuts along the first axis, and gathers what has a forward: units must cover all but the root's own."""
    network: nn.Module = make()
    assert all(parameter.dim() > 0 for parameter in network.parameters())
    found = list(units(network))
    assert all(type(unit).forward is not nn.Module.forward for unit in found)
    covered = {id(p) for unit in found for p in unit.parameters()} | {id(p) for p in network.parameters(recurse=False)}
    assert covered == {id(p) for p in network.parameters()}
