"""Frames of games of points on several processes, for losses that sum over processes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from framework import RelativisticAverage
from framework.games.frames import Camera
from framework.media.recording import gradients_from_text
from framework.recipe import Recipe
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.players import build_players
from framework.utils.importing import named_in_file
from tests.helpers.launch import ROOT
from tests.helpers.spawn import run_ranks

pytestmark = pytest.mark.distributed


def recorded() -> dict[str, Tensor]:
    """The text of one frame on this process, as numbers, and its arrows."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    session = Session(rank=rank, world=world, local_rank=rank, device=torch.device("cpu"), local_world=world)
    recipe: Recipe = named_in_file(f"{ROOT / 'recipes/gan_ring.py'}:RECIPE", flag="", example="")[0].RECIPE
    recipe = replace(recipe, game=replace(recipe.game, loss=RelativisticAverage()))
    with ExitStack() as stack:
        players = build_players(recipe, RunConfig(), session=session, stack=stack)
        points = torch.from_numpy(recipe.data.rows(np.arange(600), seed=0)["point"])
        camera = Camera.of(recipe, points, None, generator=players.players["generator"].network)
        assert camera is not None
        frame, _ = camera.frame(players.players, images_seen=0, is_end=False)
        scene = camera.scene()
    text = f"{asdict(frame) | {'arrows': ''}} {scene}"
    arrows = torch.from_numpy(gradients_from_text(frame.arrows).copy())
    return {"text": torch.tensor(list(text.encode())), "arrows": arrows}


def test_a_loss_that_compares_samples_of_all_processes_gives_the_arrows_of_one() -> None:
    alone = recorded()
    for rank in run_ranks(recorded, 2):
        assert torch.equal(rank["text"], alone["text"])
        # Sums over processes round otherwise: a step of the code is 2^(1/4) in length, and 2 pi / 256 in direction.
        difference = (rank["arrows"] - alone["arrows"]).norm(dim=1) / alone["arrows"].norm(dim=1)
        assert float(difference.max()) <= 2**0.25 - 1 + 2 * np.pi / 256
        assert int((difference > 0).sum()) <= 2, "a code on the edge may round to the other side"
