"""A game whose discriminator's weights are clipped before its turns plays as one in which we clip them ourselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framework import SGD
from tests.helpers.play import Played, start, synthetic
from tests.helpers.tiny import recipe

BOX = 0.05


def played(**clipping: object) -> Played:
    small = recipe(("R1 lazy",), "none")
    discriminator = replace(small.discriminator, optimizer=SGD(lr=0.05, momentum=0.5), **clipping)
    return start(replace(small, discriminator=discriminator))


def weights(game: Played) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in game.state.players["discriminator"].network.named_parameters()}


@torch.no_grad()
def clip(game: Played) -> None:
    for weight in weights(game).values():
        weight.clamp_(-BOX, BOX)


def test_weights_are_clipped_before_every_turn_and_every_lazy_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, twin = played(clip_weights=BOX, clip_weights_when="before"), played()
    player = twin.state.players["discriminator"]
    finish = player.step

    def step(**options: object) -> object:
        """Clip also before the lazy step, which follows the first one of every other turn at once."""
        report = finish(**options)  # type: ignore[arg-type]
        stepped.append(report)
        if lazy and len(stepped) == 1:
            clip(twin)
        return report

    monkeypatch.setattr(player, "step", step)
    batches = [synthetic(game.recipe, game.partition) for game in (ours, twin)]
    for index in range(3):
        lazy, stepped = index % 2 == 0, []
        clip(twin)
        for game, stream in zip((ours, twin), batches, strict=True):
            assert game.game.step(stream, images_seen=index * game.game.images_of_step(0))[1]
        assert len(stepped) == 1 + lazy
        for name, weight in weights(ours).items():
            assert torch.equal(weight, weights(twin)[name])
        assert max(float(weight.abs().max()) for weight in weights(ours).values()) > BOX  # as the last step left them
