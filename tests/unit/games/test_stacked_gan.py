"""The rules of a stacked GAN in one process: what each level is given and judged on, before and after the switch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import (
    R1,
    DiffAugment,
    Drift,
    FeatureCondition,
    FrameworkError,
    LabelCondition,
    Network,
    NonSaturating,
    RecipeError,
    Shards,
    Term,
    Uniform,
)
from framework.networks import mlp, stacked
from framework.networks.stacked import Generated, Judged
from framework.objectives.adversarial import LeastSquares
from framework.objectives.relativistic import RelativisticPairing
from framework.sentinels import Baselines, signals
from framework.train.network_check import Setting, check_networks
from tests.helpers.play import Played, steps, synthetic
from tests.helpers.stacking import FEATURES, NOISE, encoder, stacked_game, stacked_recipe, started

BATCH = 12


class Recorded:
    """Notes what a network is given and returns, in training."""

    def __init__(self, network: nn.Module) -> None:
        self.calls: list[tuple[tuple[Tensor, ...], Any]] = []
        network.register_forward_hook(lambda _, given, made: self.calls.append((given, made)))


def recorded(played: Played) -> tuple[Recorded, Recorded]:
    generator, discriminator = (Recorded(played.game.players[name].network) for name in ("generator", "discriminator"))
    return generator, discriminator


def reals(played: Played, *, begin: int = 0) -> Tensor:
    return next(synthetic(played.recipe, played.partition, begin)).images.float() / 127.5 - 1


def test_the_lower_level_is_given_real_features_and_from_the_switch_on_generated_ones() -> None:
    played = started(stacked_recipe())
    made, _ = recorded(played)
    steps(played, count=3)
    network = encoder()
    for number, ((_, __, given), levels) in enumerate(made.calls):
        step = number // 2  # the discriminators' turn, then the generators'
        if step < 2:  # 24 images are two steps
            assert torch.equal(given, network.encode(reals(played, begin=step * BATCH)))  # type: ignore[operator]
            assert torch.equal(levels.condition, given)
        else:
            assert given.shape == (0, FEATURES)
            assert torch.equal(levels.condition, levels.features)
    assert len(made.calls) == 6


def test_discriminators_are_shown_pictures_and_features_of_both_kinds() -> None:
    played = started(stacked_recipe())
    made, judged = recorded(played)
    steps(played, count=1)
    first, second = (levels for _, levels in made.calls)
    real, fake, again = (given for given, _ in judged.calls)
    pixels = reals(played)
    assert torch.equal(real[0], pixels)
    assert torch.equal(real[1], encoder().encode(pixels))  # type: ignore[operator]
    for given, levels in ((fake, first), (again, second)):
        assert torch.equal(given[0], levels.images)
        assert torch.equal(given[1], levels.features)
    assert not fake[0].requires_grad
    assert again[0].requires_grad
    assert not torch.equal(made.calls[0][0][0], made.calls[1][0][0]), "each turn has noise of its own"


@pytest.mark.parametrize("labels", ["uniform", "real"])
def test_classes_of_generated_samples(labels: str) -> None:
    played = started(stacked_recipe(game=stacked_game(fake_labels=labels)))
    made, _ = recorded(played)
    steps(played, count=1)
    given = [call[0][1] for call in made.calls]
    own = next(synthetic(played.recipe, played.partition)).labels
    assert [torch.equal(classes, own) for classes in given] == [labels == "real"] * 2


def test_noise_is_uniform_and_lies_side_by_side_the_upper_levels_first() -> None:
    latents = (Uniform(NOISE[0], "z1", low=0.0, high=1e-3), Uniform(NOISE[1], "z0", low=0.0))
    played = started(stacked_recipe(game=stacked_game(latents=latents)))
    made, _ = recorded(played)
    steps(played, count=1)
    z = made.calls[0][0][0]
    assert float(z[:, : NOISE[0]].max()) < 1e-3
    assert 0.9 < float(z[:, NOISE[0] :].max()) < 1
    assert float(z.min()) >= 0


def test_what_is_reported_is_the_sum_of_both_levels() -> None:
    scores = steps(started(stacked_recipe(), dtype=torch.float64), count=3)
    for kind in ("real", "fake"):
        levels = [scores[f"scores/logits/{kind}_{level}"] for level in ("features", "images")]
        torch.testing.assert_close(scores[f"scores/logits/{kind}"], (levels[0] + levels[1]) / 2)
        assert not torch.equal(*levels)
    assert {name for name in scores if name.startswith("scores/term/")} >= {
        f"scores/term/{term}" for term in ("LabelCondition", "FeatureCondition", "NoiseEntropy")
    }
    torch.testing.assert_close(scores["scores/term/NoiseEntropy_weighted"], 10 * scores["scores/term/NoiseEntropy"])


def test_the_discriminators_loss_is_halved_and_both_follow_the_weight() -> None:
    """Of Adam a factor is invisible, so gradients are compared, without other terms."""
    norms = {}
    for weight, halved in ((1.0, 0.5), (3.0, 0.5), (1.0, 1.0)):
        game = stacked_game(
            adversarial_weight=weight, discriminator_weight=halved, generator_terms=(), discriminator_terms=()
        )
        norms[weight, halved] = steps(started(stacked_recipe(game=game), dtype=torch.float64), count=1)
    plain = norms[1.0, 0.5]
    torch.testing.assert_close(norms[3.0, 0.5]["scores/grad_norm/D"], 3 * plain["scores/grad_norm/D"])
    torch.testing.assert_close(norms[1.0, 1.0]["scores/grad_norm/D"], 2 * plain["scores/grad_norm/D"])
    for other in norms.values():
        torch.testing.assert_close(other["scores/loss/D"], plain["scores/loss/D"])


@pytest.mark.parametrize("loss", [NonSaturating(), LeastSquares()])
def test_sentinels_take_undecided_discriminators_for_what_they_are(loss: Any) -> None:
    equilibrium = stacked_game(loss=loss).equilibrium()
    undecided = torch.full((4,), equilibrium.logit)
    both = 2 * float(loss.discriminator(undecided, undecided))
    found = signals({"loss/D": both}, equilibrium=equilibrium, baselines=Baselines(), steps=1, skipped_steps=0)
    assert found["discriminator_loss_share"] == pytest.approx(1.0)


def test_losses_that_compare_logits_and_penalties_are_played() -> None:
    game = stacked_game(loss=RelativisticPairing(), discriminator_terms=(R1(weight=1.0), Drift(weight=0.1)))
    scores = steps(started(stacked_recipe(game=game)), count=3)
    assert (scores["scores/penalty/R1"] > 0).all()
    assert (scores["scores/loss/G"] != scores["scores/loss/D"]).all()


def test_pictures_are_augmented_and_features_are_not() -> None:
    plain, augmented = (
        started(stacked_recipe(game=stacked_game(augment=augment)))
        for augment in (None, DiffAugment(policies=("translation",)))
    )
    (_, before), (_, after) = recorded(plain), recorded(augmented)
    steps(plain, count=1)
    steps(augmented, count=1)
    for place, same in ((0, False), (1, True)):
        assert torch.equal(before.calls[0][0][place], after.calls[0][0][place]) is same


class Alone(stacked.Generator):
    """Returns pictures alone, whatever it is given."""

    def forward(self, z: Tensor, labels: Tensor, given: Tensor | None = None) -> Tensor | Generated:
        return super().forward(z, labels)


class UpperAlone(stacked.Discriminator):
    """Judges features alone."""

    def forward(self, images: Tensor, features: Tensor) -> Judged:
        said = super().forward(images, features)
        return Judged(logits=said.logits[:1], noise=said.noise)


def with_network(player: str, network: Network) -> Any:
    recipe = stacked_recipe()
    return replace(recipe, **{player: replace(recipe.players[player], network=network)})


SIZES: dict[str, Any] = {"features": FEATURES, "z_dims": NOISE, "width": 4}


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        (
            lambda: with_network("generator", Network(Alone, **SIZES)),
            "Alone returns a Tensor without features and images and condition",
        ),
        (
            lambda: with_network("generator", Network(mlp.Generator, z_dim=7)),
            r"Generator.forward\(z, labels, dropout\) cannot be called with latents and labels and features",
        ),
        (
            lambda: with_network("generator", Network(stacked.Generator, **(SIZES | {"z_dims": (4, 3)}))),
            r"z_dims=\(4, 3\) of Generator, where game.latents are \(3, 4\) wide",
        ),
        (
            lambda: with_network("discriminator", Network(UpperAlone, **SIZES)),
            r"UpperAlone returns logits of 1 level\(s\): they must be those of both",
        ),
        (
            lambda: with_network("discriminator", Network(mlp.Discriminator)),
            "Discriminator has no attribute `features`",
        ),
    ],
)
def test_networks_that_do_not_fit_are_named(recipe: Any, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        check_networks(recipe(), Setting(world=1))


def test_networks_that_fit_pass_without_a_note() -> None:
    assert check_networks(stacked_recipe(), Setting(world=2, micro_batches=2)) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda: stacked_recipe(helpers={}), r"StackedGAN inverts a trained encoder: give helpers=\{'encoder'"),
        (
            lambda: stacked_recipe(data=Shards(location="synthetic", resolution=16, channels=1)),
            "data: StackedGAN needs pictures with classes",
        ),
        (
            lambda: with_network("generator", Network(stacked.Generator, **(SIZES | {"features": 11}))),
            "the generator has features=11, the encoder 12",
        ),
        (lambda: stacked_game(latents=(Uniform(7, "z"),)), r"needs the noise of both, .* not 1 latent\(s\)"),
        (lambda: stacked_game(joint_after_images=-1), "joint_after_images=-1 must be at least 0"),
        (lambda: stacked_game(generator_terms=(R1(weight=1.0),)), "R1 is a term of the discriminator"),
    ],
)
def test_what_cannot_be_played_is_refused_when_it_is_written(change: Any, why: str) -> None:
    with pytest.raises(FrameworkError, match=why):
        change()


@pytest.mark.parametrize("term", [LabelCondition(), FeatureCondition()])
def test_a_condition_pulls_its_generator_towards_it(term: Term) -> None:
    """Trained on one of them alone, the generators come to make what the encoder takes for the condition."""
    game = stacked_game(adversarial_weight=0.0, joint_after_images=10**6, generator_terms=(term,))
    values = steps(started(stacked_recipe(game=game)), count=150)[f"scores/term/{term.name}"]
    print(f"{term.name}: {values[0]:.4f}, then {values[-10:].mean():.4f}")
    assert float(values[-10:].mean()) < 0.6 * float(values[0])
