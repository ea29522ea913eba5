"""The rules of the alternating game, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from framework import (
    R1,
    Alternating,
    Drift,
    FirstOrderR1,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Network,
    NonSaturating,
    Wasserstein,
)
from framework.games.base import Game
from framework.games.metrics import Metrics
from framework.games.microbatch import ImageDraws, MicroBatch
from framework.networks.blocks.moving import MovingMean
from framework.networks.blocks.spectral import SpectralNorm
from framework.networks.draw import Draw
from framework.recipe import Recipe, RecipeError
from framework.runtime.seeding import Draws
from tests.helpers import smooth
from tests.helpers.play import Played, small_recipe, smooth_recipe, start, steps, synthetic


def power_vectors(played: Played) -> dict[str, Tensor]:
    network = played.game.players["discriminator"].network
    return {n: m.u.clone() for n, m in network.named_modules() if isinstance(m, SpectralNorm)}


def test_spectral_norm_iterates_once_per_turn_whatever_the_micro_batches() -> None:
    recipe = smooth_recipe()
    vectors = []
    for micro_batches in (1, 3):
        played = start(recipe, micro_batches=micro_batches, dtype=torch.float64)
        before = power_vectors(played)
        steps(played, count=1)
        vectors.append(power_vectors(played))
        assert all(not torch.equal(before[n], vectors[-1][n]) for n in before if before[n].numel() > 1)
    assert all(torch.equal(vectors[0][n], vectors[1][n]) for n in vectors[0])


def test_lazy_penalties_are_due_by_the_clock_and_weighted_by_their_interval() -> None:
    recipe = smooth_recipe(game=Alternating(loss=Hinge(), discriminator_terms=(R1(weight=1.0, every=3),)))
    played = start(recipe)
    seen = []
    for step in range(7):
        metrics, _ = played.game.step(synthetic(recipe, played.partition, step * 12), images_seen=step * 12)
        seen.append("penalty/R1" in metrics.means(device=torch.device("cpu")))
    assert seen == [True, False, False, True, False, False, True]
    resumed = start(recipe)
    metrics, _ = resumed.game.step(synthetic(recipe, resumed.partition, 36), images_seen=36)
    assert "penalty/R1" in metrics.means(device=torch.device("cpu"))


def test_critic_steps_consume_fresh_images_and_advance_the_clock() -> None:
    recipe = smooth_recipe(game=Alternating(loss=Wasserstein(), critic_steps=3))
    played = start(recipe)
    taken = count()
    batches = (next(synthetic(recipe, played.partition, 12 * next(taken))) for _ in iter(int, 1))
    played.game.step(batches, images_seen=0)
    assert next(taken) == 3
    assert played.game.images_of_step(0) == 36
    assert (played.game.players["discriminator"].steps_taken(), played.game.players["generator"].steps_taken()) == (
        3,
        1,
    )


def test_the_opponent_is_not_changed_by_a_turn() -> None:
    played = start(smooth_recipe())
    game = played.game
    critic, maker = game.rules.turns()
    fields = game._real(next(synthetic(played.recipe, played.partition)), 0)
    draws, generator = Draws(seed=0, images_seen=0), game.players["generator"].network
    before = {n: p.detach().clone() for n, p in generator.named_parameters()}
    game._turn(critic, fields, 0, 0, draws, Metrics(), waiting=[])
    assert all(torch.equal(before[n], p) and p.grad is None for n, p in generator.named_parameters())
    discriminator = game.players["discriminator"].network
    judged = {n: p.detach().clone() for n, p in discriminator.named_parameters()}
    game._turn(maker, fields, 0, 0, draws, Metrics(), waiting=[])
    assert all(torch.equal(judged[n], p) and p.grad is None for n, p in discriminator.named_parameters())


@pytest.mark.parametrize(
    "game",
    [
        Alternating(loss=NonSaturating(), discriminator_terms=(R1(weight=1.0, every=1),)),
        Alternating(loss=LeastSquares(), fake_labels="real"),
        Alternating(loss=Wasserstein(), discriminator_terms=(GradientPenalty(weight=10.0), Drift(weight=1e-3))),
    ],
    ids=["non-saturating + R1", "least squares", "wasserstein + penalty + drift"],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_games_play(game: Alternating, precision: str) -> None:
    played = start(smooth_recipe(game=game), precision=precision)
    metrics = steps(played, count=3)
    assert all(bool(values.isfinite().all()) for values in metrics.values())
    for term in game.discriminator_terms:
        assert f"scores/penalty/{type(term).__name__}" in metrics


def test_bf16_stays_near_fp32_and_keeps_fp32_parameters() -> None:
    runs = {precision: start(smooth_recipe(), precision=precision) for precision in ("fp32", "bf16")}
    losses = {precision: steps(played, count=3)["scores/loss/D"] for precision, played in runs.items()}
    # bf16 keeps 8 bits: a relative error of 2^-8 per operation, a handful of operations deep, on losses near 2.
    torch.testing.assert_close(losses["bf16"], losses["fp32"], atol=0.05, rtol=0)
    assert {p.dtype for p in runs["bf16"].game.players["generator"].network.parameters()} == {torch.float32}


def test_unconditional() -> None:
    recipe: Recipe = small_recipe()
    recipe = replace(recipe, data=replace(recipe.data, classes=0))
    played = start(recipe)
    assert bool(steps(played, count=1)["scores/loss/G"].isfinite().all())


class WithoutNumbers(ImageDraws):
    """Draws whose normal values are NaN."""

    def normal(self, what: str, *shape: int) -> Tensor:
        return torch.full_like(super().normal(what, *shape), torch.nan)


@pytest.mark.parametrize("side", ["generator", "discriminator"])
def test_a_turn_that_is_not_finite_leaves_no_trace(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played = start(small_recipe(), dtype=torch.float64)
    steps(played, count=2)
    game, average = played.game, played.game.averages["generator"]
    networks = (game.players["generator"].network, game.players["discriminator"].network)
    # Spectral norm's vectors move on with the turn; they depend on weights only, which stay finite.
    state = {
        f"{i}/{name}": value.clone()
        for i, network in enumerate(networks)
        for name, value in network.state_dict().items()
        if not name.endswith((".u", ".v"))
    }
    averaged = {key: value.clone() for key, value in average.weights.items()}
    split = game._splitter.split
    poisoned = {"generator": "generator", "discriminator": "discriminator/0"}[side]

    def with_nan(fields: dict[str, Tensor], draws: Draws, purpose: str, **options: int) -> Iterator[MicroBatch]:
        for micro_batch in split(fields, draws, purpose, **options):
            draw = WithoutNumbers(**vars(micro_batch.draw))
            yield replace(micro_batch, draw=draw) if purpose == poisoned else micro_batch

    monkeypatch.setattr(game, "_splitter", SimpleNamespace(split=with_nan))
    _, finite = game.step(synthetic(played.recipe, played.partition, 24), images_seen=24)
    assert not finite
    assert all(torch.equal(average.weights[key], value) for key, value in averaged.items())
    changed = {
        key for key, value in state.items() if not torch.equal(networks[int(key[0])].state_dict()[key[2:]], value)
    }
    # The discriminator's own turn was good when the generator's was not, and stays.
    assert all(key.startswith("1/") for key in changed)
    assert (changed == set()) == (side == "discriminator")
    monkeypatch.undo()
    steps(played, begin=36, count=1)
    assert all(bool(v.isfinite().all()) for network in networks for v in network.state_dict().values())
    with average.swapped_in() as network:
        assert bool(network(torch.ones(2, 8).double(), torch.tensor([0, 1])).isfinite().all())


def test_a_penalty_of_the_wrong_player_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"game\.generator_terms: R1 is a term of the discriminator"):
        Alternating(loss=Hinge(), generator_terms=(R1(weight=1.0),))


def test_no_critic_is_no_game() -> None:
    with pytest.raises(RecipeError, match="critic_steps=0"):
        Alternating(loss=Hinge(), critic_steps=0)


class Averaging(smooth.Discriminator):
    """Keeps a moving mean of its images, as framework.networks.blocks.moving does for any player."""

    def __init__(self, *, resolution: int, channels: int, classes: int) -> None:
        super().__init__(resolution=resolution, channels=channels, classes=classes)
        self.mean = MovingMean((), keep=0.5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.mean.note(images.detach().mean((1, 2, 3)))
        return super().forward(images, labels)


def test_a_discriminators_moving_means_move_once_a_step_and_not_in_one_that_does_not_count() -> None:
    recipe = smooth_recipe()
    recipe = replace(recipe, discriminator=replace(recipe.discriminator, network=Network(Averaging)))
    played = start(recipe)
    mean, batches = played.game.players["discriminator"].network.mean, synthetic(recipe, played.partition)
    before = mean.value.clone()
    _, finite = played.game.step(batches, images_seen=0)
    assert finite
    moved = mean.value.clone()
    assert moved != before
    with torch.no_grad():
        weight = next(played.game.players["generator"].network.parameters())
        weight.fill_(torch.nan)
    _, finite = played.game.step(batches, images_seen=12)
    assert not finite
    assert torch.equal(mean.value, moved)
    assert float(mean.take()[0]) == 0, "and nothing of it is left for the next one"


def test_a_discriminator_is_dealt_draws_of_its_own_for_real_fake_and_penalty() -> None:
    seen: list[tuple[int, ...]] = []

    class Dealt(smooth.Discriminator):
        def stochastic(self, draw: Draw) -> dict[str, Tensor]:
            return {"seeds": draw.integers("seeds", 1 << 62)}

        def forward(self, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None) -> Tensor:
            assert seeds is not None
            seen.append(tuple(seeds.tolist()))
            return super().forward(images, labels)

    recipe = smooth_recipe(
        game=Alternating(loss=Hinge(), discriminator_terms=(R1(weight=1.0), FirstOrderR1(weight=1.0)))
    )
    recipe = replace(recipe, discriminator=replace(recipe.discriminator, network=Network(Dealt)))
    steps(start(recipe), count=1)
    real, fake, penalty, *rest, generator = seen
    assert len({real, fake, penalty, generator}) == 4
    assert set(rest) == {penalty}, "penalties compare logits under the same draws"
    again = seen.copy()
    seen.clear()
    steps(start(recipe), count=1)
    assert seen == again, "functions of the clock"


def test_a_game_that_forgets_to_draw_its_pictures_is_told_which_method_it_lacks() -> None:
    game = Alternating(loss=Hinge())
    with pytest.raises(RecipeError, match=r"Alternating names a diverse_field: it also needs the method `pictures`"):
        Game.pictures(game, torch.nn.Identity(), small_recipe(), labels=None, count=1)
