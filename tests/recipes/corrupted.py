"""The kink-free players; at a given step one process's copy of one weight moves by one unit in the last place."""

import os

import torch

from framework import launch
from framework.games.runner import GameRunner
from tests.recipes.smooth import RECIPE

IMAGES, RANK = int(os.environ["CORRUPT_AT_IMAGES"]), os.environ.get("CORRUPT_RANK", "1")
_step = GameRunner.step


def step(self, batches, *, images_seen):  # type: ignore[no-untyped-def]
    """The step, and the fault after it."""
    result = _step(self, batches, images_seen=images_seen)
    if images_seen == IMAGES and os.environ["RANK"] == RANK:
        discriminator = self.players["discriminator"].network
        weight = dict(discriminator.named_parameters())["embedding.parametrizations.weight.original"]
        with torch.no_grad():
            weight[3, 7] = torch.nextafter(weight[3, 7], torch.tensor(torch.inf))
    return result


if __name__ == "__main__":
    GameRunner.step = step  # type: ignore[method-assign]
    launch(RECIPE)
