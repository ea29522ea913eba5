"""Dropout by seeds in both players: the same masks on one process and on two, in micro-batches, and after a resume."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from framework import R1, Adam, Alternating, FirstOrderR1, GradientPenalty, Hinge, Network, Player, Shards
from framework.networks.blocks.dropout import Dropout
from framework.recipe import Recipe
from tests.helpers import newcomers
from tests.helpers.play import largest_difference, outputs, start, steps
from tests.helpers.spawn import run_ranks

COUNT = 4
TOLERANCE = 1e-9
"""Of float64 arithmetic in another order of summation, over a few steps of networks without kinks."""


def recipe(*, lazy: bool = False) -> Recipe:
    """Twelve images a batch, with penalties whose second derivatives go through masks."""
    penalties = (R1(weight=0.5, every=2), GradientPenalty(weight=0.5), FirstOrderR1(weight=0.5))
    return Recipe(
        name="dropping",
        paper="none",
        data=Shards(location="synthetic", resolution=8, channels=3),
        generator=Player(network=Network(newcomers.DroppingGenerator), optimizer=Adam(lr=1e-3)),
        discriminator=Player(network=Network(newcomers.DroppingDiscriminator), optimizer=Adam(lr=1e-3)),
        game=Alternating(loss=Hinge(), discriminator_terms=penalties, lazy_steps=lazy),
        batch_size=12,
        images=10_000,
    )


def play() -> dict[str, Tensor]:
    """Cut into one and into three micro-batches, with penalties in a turn's loss and in steps of their own."""
    results = {}
    for micro_batches in (1, 3):
        for lazy in (False, True):
            played = start(recipe(lazy=lazy), dtype=torch.float64, micro_batches=micro_batches)
            played.game.players["discriminator"].network.train()
            found = steps(played, count=COUNT)
            played.game.players["discriminator"].network.eval()
            found |= outputs(played)
            results |= {f"{micro_batches} {lazy}/{name}": value for name, value in found.items()}
    return results


@pytest.fixture(scope="module")
def results() -> dict[int, dict[str, Tensor]]:
    return {1: run_ranks(play, 1)[0], 2: run_ranks(play, 2)[0]}


@pytest.mark.distributed
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("world", "micro_batches"), [(2, 1), (1, 3), (2, 3)])
def test_masks_do_not_depend_on_how_the_batch_is_cut(
    results: dict[int, dict[str, Tensor]], lazy: bool, world: int, micro_batches: int
) -> None:
    whole = {n.partition("/")[2]: v for n, v in results[1].items() if n.startswith(f"1 {lazy}/")}
    cut = {n.partition("/")[2]: v for n, v in results[world].items() if n.startswith(f"{micro_batches} {lazy}/")}
    for part in ("scores/", "outputs/"):
        difference = largest_difference(whole, cut, part)
        print(f"dropout, lazy={lazy}, {world} process(es), {micro_batches} micro-batch(es), {part}: {difference:.1e}")
        assert difference < TOLERANCE


def test_masks_are_used_and_change_from_step_to_step() -> None:
    dropping, plain = start(recipe(), dtype=torch.float64), start(recipe(), dtype=torch.float64)
    for player in plain.game.players.values():
        for layer in player.network.modules():
            if isinstance(layer, Dropout):
                layer.p = 0.0
    assert largest_difference(steps(dropping, count=1), steps(plain, count=1), "scores/loss/D") > 1e-3
    masks: list[Tensor] = []
    layer = dropping.game.players["discriminator"].network.drop
    layer.register_forward_hook(lambda layer, inputs, output: masks.append(output == 0))
    steps(dropping, begin=12, count=2)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > len(masks) // 2, "real, fake, penalty, each step"


def test_a_resumed_run_drops_what_an_undisturbed_one_does() -> None:
    straight, stopped, again = (start(recipe()) for _ in range(3))
    steps(straight, count=4)
    steps(stopped, count=2)
    torch.manual_seed(1234)  # whatever torch's generator holds
    for key in ("generator", "discriminator"):
        mine, theirs = again.state.players[key], stopped.state.players[key]
        slices = {(part.kind, part.name): part.values for part in theirs.slices(own=True)}
        with torch.no_grad():
            for part in mine.slices(own=True):
                part.values.copy_(slices[part.kind, part.name])
        mine.commit(steps_taken=theirs.steps_taken())
    steps(again, begin=24, count=2)
    expected = {p.key: p.values for p in straight.state.slices(own=True, buffers=True) if "/ema" not in p.key}
    for tensor_slice in again.state.slices(own=True, buffers=True):
        if tensor_slice.key in expected:
            assert torch.equal(tensor_slice.values, expected.pop(tensor_slice.key)), tensor_slice.key
    assert not expected


def test_seeds_are_needed_in_training_and_only_there() -> None:
    layer, x = Dropout(0.5, layer=3), torch.ones(4, 100)
    seeds = torch.arange(4)
    dropped = layer(x, seeds)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped, layer(x, seeds))
    assert torch.equal(layer(x[1:3], seeds[1:3]), dropped[1:3]), "a row's mask is its seed's"
    assert not torch.equal(Dropout(0.5, layer=4)(x, seeds), dropped)
    channels = Dropout(0.5, layer=0, whole_channels=True)(torch.ones(4, 64, 3, 3), seeds)
    assert torch.equal(channels, channels[:, :, :1, :1].expand_as(channels))
    assert torch.equal(layer.eval()(x), x)


def test_the_share_that_is_dropped() -> None:
    p, count = 0.3, 200_000
    dropped = (Dropout(p, layer=0)(torch.ones(8, count // 8), torch.arange(8)) == 0).double().mean()
    assert abs(float(dropped) - p) < 5 * (p * (1 - p) / count) ** 0.5, "five standard deviations"


def test_bad_shares_and_missing_seeds_are_refused() -> None:
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match="must be at least 0 and below 1"):
            Dropout(p, layer=0)
    layer = Dropout(0.5, layer=7)
    with pytest.raises(ValueError, match=r"Dropout\(layer=7\): no seeds in training"):
        layer(torch.ones(2, 3))
    with pytest.raises(ValueError, match="3 seeds for 2 images"):
        layer(torch.ones(2, 3), torch.arange(3))
