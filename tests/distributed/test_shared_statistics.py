"""Batch norms with statistics of each process's own images: their copies stay equal, and mean what they should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from framework import Network
from framework.networks import sagan
from framework.networks.blocks.norm import BatchNorm2d, share_statistics
from framework.recipe import Recipe
from framework.runtime.session import Session
from framework.train.drift import check_drift
from tests.helpers.play import small_recipe, start, steps
from tests.helpers.spawn import run_ranks


def local_recipe() -> Recipe:
    recipe = small_recipe()
    network = Network(sagan.Generator, width=4, z_dim=8, attention_at=16, statistics="local")
    return replace(recipe, generator=replace(recipe.generator, network=network))


def worker() -> dict[str, Tensor]:
    rank, world = dist.get_rank(), dist.get_world_size()
    images = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(rank))
    layer = BatchNorm2d(3, statistics="local")
    layer(images)
    found = {"own mean": layer.running_mean.clone(), "own var": layer.running_var.clone()}
    share_statistics(layer)
    found |= {"shared mean": layer.running_mean.clone(), "shared var": layer.running_var.clone()}
    played = start(local_recipe())
    session = Session(rank=rank, world=world, local_rank=rank, device=torch.device("cpu"))
    for count in range(3):
        steps(played, begin=count * played.game.images_of_step(0), count=1)
        check_drift(
            played.state, played.state.record(), session=session, images_seen=count
        )  # raises when copies differ
    return found


@pytest.mark.distributed
def test_local_statistics_are_shared_after_every_step() -> None:
    first, second = run_ranks(worker, 2)
    for name in ("mean", "var"):
        assert not torch.equal(first[f"own {name}"], second[f"own {name}"])
        assert torch.equal(first[f"shared {name}"], second[f"shared {name}"])
        torch.testing.assert_close(first[f"shared {name}"], (first[f"own {name}"] + second[f"own {name}"]) / 2)
