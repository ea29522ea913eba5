"""The rules of translation from pairs, in one process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import L1, R1, Adam, Drift, Image, Network, NonSaturating, Paired, Player, Shards
from framework.games.showing import Showing
from framework.media import PictureGrid
from framework.networks import pix2pix
from framework.networks.blocks.norm import BatchNorm2d
from framework.recipe import RecipeError
from framework.train.network_check import Setting, check_networks
from tests.helpers.play import start
from tests.helpers.translating import SIDE, batches, paired_recipe, steps


class Recorded:
    """Notes what a network is given and returns, in training."""

    def __init__(self, network: nn.Module) -> None:
        self.calls: list[tuple[tuple[Tensor, ...], Tensor]] = []
        network.register_forward_hook(lambda _, given, made: self.calls.append((given, made.detach().clone())))


def test_both_turns_see_the_same_translations_of_the_same_pairs() -> None:
    """Dropout included: the second pass of the generator has the first one's masks."""
    played = start(paired_recipe())
    made, judged = (Recorded(played.game.players[name].network) for name in ("generator", "discriminator"))
    steps(played, count=1)
    (first, second) = made.calls
    assert torch.equal(first[1], second[1])
    # The discriminator judges both in its own turn, and the translations alone in the generator's.
    fake, real, again = [given for given, _ in judged.calls]
    assert torch.equal(fake[0], first[1])
    assert torch.equal(again[0], second[1])
    assert torch.equal(fake[1], real[1]), "beside one source"
    (rows,) = [next(batches(played)).fields]
    assert torch.equal(real[0], rows["target"].float() / 127.5 - 1)
    assert torch.equal(real[1], rows["source"].float() / 127.5 - 1)


def test_other_steps_drop_other_numbers() -> None:
    recipe = paired_recipe()
    frozen = replace(
        recipe, generator=replace(recipe.generator, optimizer=Adam(lr=1e-12)), game=Paired(loss=NonSaturating())
    )
    played = start(frozen)
    made = Recorded(played.game.players["generator"].network)
    same = next(batches(played))
    for images in (0, 8):
        played.game.step(iter([same]), images_seen=images)
    assert not torch.allclose(made.calls[0][1], made.calls[2][1], atol=1e-4)


def test_running_statistics_follow_a_batch_once() -> None:
    played = start(paired_recipe())
    generator = played.game.players["generator"].network
    layers = [module for module in generator.modules() if isinstance(module, BatchNorm2d)]
    before = [layer.running_mean.clone() for layer in layers]
    seen: list[list[Tensor]] = [[] for _ in layers]
    for layer, means in zip(layers, seen, strict=True):
        layer.register_forward_hook(lambda _, given, __, means=means: means.append(given[0].mean((0, 2, 3))))
    steps(played, count=1)
    for layer, kept, means in zip(layers, before, seen, strict=True):
        first, second = means
        torch.testing.assert_close(first, second)
        torch.testing.assert_close(layer.running_mean, kept + layer.momentum * (second - kept))
        assert not torch.equal(layer.running_mean, kept)


def test_the_discriminators_loss_is_halved_and_nothing_else() -> None:
    """Of Adam the factor is invisible, so the gradients are compared."""
    norms = {}
    for weight in (0.5, 1.0):
        game = Paired(loss=NonSaturating(), discriminator_weight=weight, generator_terms=(L1(weight=100.0),))
        norms[weight] = steps(start(paired_recipe(game=game), dtype=torch.float64), count=1)
    torch.testing.assert_close(2 * norms[0.5]["scores/grad_norm/D"], norms[1.0]["scores/grad_norm/D"])
    for name in ("scores/loss/D", "scores/term/L1"):
        torch.testing.assert_close(norms[0.5][name], norms[1.0][name])
    assert float(norms[0.5]["scores/term/L1_weighted"]) == pytest.approx(100 * float(norms[0.5]["scores/term/L1"]))


def test_penalties_look_at_targets_beside_their_sources() -> None:
    game = Paired(loss=NonSaturating(), discriminator_terms=(R1(weight=1.0), Drift(weight=0.1)))
    scores = steps(start(paired_recipe(game=game)), count=1)
    assert float(scores["scores/penalty/R1"]) > 0


def pairs(*fields: Image) -> Shards:
    return Shards(location="synthetic", fields=fields)


def translating(**options: Any) -> Player:
    return replace(paired_recipe().generator, network=Network(pix2pix.Generator, width=4, **options))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda: paired_recipe(data=pairs(Image("drawing", SIDE, 1), Image("target", SIDE))),
            r"the data has no picture 'source': give data=Shards\(fields=\(Image\('source'",
        ),
        (lambda: paired_recipe(held_out=None), "held_out: name pairs that are not trained on"),
        (
            lambda: paired_recipe(held_out=pairs(Image("source", SIDE, 1))),
            "held_out: has no picture 'target' of 16 x 16 pixels and 3 channel",
        ),
        (
            lambda: paired_recipe(held_out=pairs(Image("source", SIDE), Image("target", SIDE))),
            "held_out: has no picture 'source' of 16 x 16 pixels and 1 channel",
        ),
        (lambda: Paired(loss=NonSaturating(), generator_terms=(R1(weight=1.0),)), "R1 is a term of the discriminator"),
        (lambda: Paired(loss=NonSaturating(), discriminator_terms=(L1(),)), "L1 is a term of the generator"),
    ],
)
def test_what_cannot_be_played_is_refused_when_it_is_written(change: Any, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        change()


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        (
            lambda: paired_recipe(generator=translating(num_downs=5)),
            r"generator.network: pictures of 16 x 16 px: with num_downs=5 both sides must be multiples of 32",
        ),
        (
            lambda: paired_recipe(
                generator=replace(paired_recipe().generator, network=Network(Smaller)),
            ),
            r"generator.network: Smaller returns images of shape \(8, 3, 8, 8\) where the data has \(8, 3, 16, 16\)",
        ),
        (
            lambda: paired_recipe(discriminator=replace(paired_recipe().discriminator, network=Network(WithoutSource))),
            r"WithoutSource.forward\(images\) cannot be called with target and source",
        ),
    ],
)
def test_networks_that_do_not_fit_are_named_with_their_shapes(recipe: Any, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        check_networks(recipe(), Setting(world=1))


def test_networks_that_fit_are_not_complained_of() -> None:
    assert check_networks(paired_recipe(), Setting(world=2, micro_batches=2)) == []


class Smaller(nn.Module):
    """A generator of half the side."""

    def __init__(self, *, source_channels: int, target_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(source_channels, target_channels, 2, stride=2)

    def forward(self, source: Tensor) -> Tensor:
        return self.conv(source)


class WithoutSource(nn.Module):
    """A discriminator that judges pictures alone."""

    def __init__(self, *, target_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(target_channels, 1, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def test_rows_of_input_output_and_target_are_shown() -> None:
    recipe = paired_recipe()
    generator = recipe.build_network("generator").eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(10)  # an untrained network makes grey of everything
    held_out = {
        "source": torch.zeros(12, 1, SIDE, SIDE, dtype=torch.uint8),
        "target": torch.full((12, 3, SIDE, SIDE), 200, dtype=torch.uint8),
    }
    game = recipe.game
    assert isinstance(game, Paired)
    (grid,) = game.show(generator, Showing(recipe=recipe, held_out=held_out)).values()
    assert isinstance(grid, PictureGrid)
    assert tuple(grid.row_names) == ("input", "output", "target")
    assert (grid.columns, len(grid.pictures)) == (10, 30)
    assert (grid.pictures[:10] == 0).all()
    assert (grid.pictures[20:] == 200).all()
    assert len({picture.tobytes() for picture in grid.pictures[10:20]}) == 10, "each has dropout of its own"
