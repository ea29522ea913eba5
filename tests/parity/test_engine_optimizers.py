"""Every optimiser on every engine: 2 processes against one, and a state that is saved and restored against itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from framework import SGD, AdamW, Recipe, RMSProp
from framework.engines.base import Engine, forget_moments
from framework.engines.capabilities import ENGINES
from tests.helpers.play import Played, outputs, start, synthetic
from tests.helpers.spawn import run_ranks
from tests.helpers.tiny import recipe

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]
BEFORE, AFTER = 2, 2
"""Steps before the state is saved, and after it is restored."""
LIMIT = 1e-5
"""Of values above 1 relative to them: rounding of fp32 sums in another order (2^-24 = 6e-8), through some tens of
operations, divided by the root of a running mean of squares (`benchmarks.engine_capabilities`)."""
BOX = 0.05


def game(generator: Any, discriminator: Any, **clipping: Any) -> Recipe:
    """A tiny game; the discriminator's first weights lie within 0.33, so that a box of 0.05 cuts most of them."""
    small = recipe(("none",), "none")
    return replace(
        small,
        generator=replace(small.generator, optimizer=generator),
        discriminator=replace(small.discriminator, optimizer=discriminator, **clipping),
    )


GAMES = {
    "AdamW, RMSProp": game(
        AdamW(lr=1e-3, weight_decay=0.1), RMSProp(lr=1e-4, momentum=0.5), clip_weights=BOX, clip_weights_when="after"
    ),
    "SGD with and without momentum": game(SGD(lr=1e-2, momentum=0.9, nesterov=True), SGD(lr=1e-2), clip_weights=BOX),
}


def turn(played: Played, index: int) -> None:
    batches = synthetic(played.recipe, played.partition, index * played.game.images_of_step(0))
    assert played.game.step(batches, images_seen=index * played.game.images_of_step(0))[1]


def held(engine: Engine) -> dict[tuple[str, str], Tensor]:
    """What this process has of weights and moments."""
    return {(part.kind, part.name): part.values.clone() for part in engine.slices(own=False)}


@torch.no_grad()
def put_back(engine: Engine, kept: dict[tuple[str, str], Tensor], *, steps_taken: int) -> None:
    for part in engine.slices(own=False):
        part.values.copy_(kept[part.kind, part.name])
    engine.commit(steps_taken=steps_taken)


def play(engine: str, recipe: Recipe) -> dict[str, Tensor]:
    """Outputs after some steps, the largest weight, and how far players are off that go on from saved slices."""
    played, again = start(recipe, engine=engine), start(recipe, engine=engine)
    for index in range(BEFORE):
        turn(played, index)
    # The other players have never taken a step, and are given everything.
    for side, player in played.state.players.items():
        put_back(again.state.players[side], held(player), steps_taken=player.steps_taken())
    for index in range(BEFORE, BEFORE + AFTER):
        turn(played, index)
        turn(again, index)
    found, difference = outputs(played), 0.0
    for side, player in played.state.players.items():
        other = again.state.players[side]
        assert other.steps_taken() == player.steps_taken()
        mine, theirs = held(player), held(other)
        assert mine.keys() == theirs.keys()
        difference = max(difference, *(float((theirs[key] - value).abs().max()) for key, value in mine.items()))
        found[f"moved/{side}"] = torch.tensor([float(player.steps_taken()), len({kind for kind, _ in mine})])
    generator, discriminator = (played.state.players[side] for side in ("generator", "discriminator"))
    clipped = [value.abs().max() for (kind, _), value in held(discriminator).items() if kind == "weight"]
    found["largest weight"] = torch.stack(clipped).max()
    found["resumed"] = torch.tensor(difference)
    # A new beginning, as growing has it.
    forget_moments(generator)
    left = [value.abs().max() for (kind, _), value in held(generator).items() if kind != "weight"]
    found["forgotten"] = torch.tensor([float(generator.steps_taken()), float(max(left))])
    for player in (*played.state.players.values(), *again.state.players.values()):
        player.close()
    return found


def play_all(engines: tuple[str, ...]) -> dict[str, Tensor]:
    return {
        f"{engine}/{name}/{key}": value.double()
        for engine in engines
        for name, rules in GAMES.items()
        for key, value in play(engine, rules).items()
    }


def test_every_optimiser_trains_and_resumes_on_every_engine_as_on_one_process() -> None:
    one = play_all(("ddp",))
    moments = {"AdamW, RMSProp": (3, 3), "SGD with and without momentum": (2, 1)}
    for found in run_ranks(play_all, 2, ENGINES):
        for engine in ENGINES:
            for name, kinds in moments.items():
                ours, expected = (
                    {k.removeprefix(prefix): v for k, v in results.items() if k.startswith(prefix)}
                    for results, prefix in ((found, f"{engine}/{name}/"), (one, f"ddp/{name}/"))
                )
                largest = max(
                    float(((ours[key] - value).abs() / value.abs().clamp(min=1.0)).max())
                    for key, value in expected.items()
                    if key.startswith("outputs/")
                )
                print(f"{engine}, {name}: {largest:.1e} from one process, {float(ours['resumed']):.0e} after a resume")
                assert largest <= LIMIT
                assert float(ours["resumed"]) == 0.0
                for side, count in zip(("generator", "discriminator"), kinds, strict=True):
                    assert ours[f"moved/{side}"].tolist() == [BEFORE + AFTER, count]
                assert ours["forgotten"].tolist() == [0.0, 0.0]
                assert float(ours["largest weight"]) == pytest.approx(BOX, rel=1e-6)
