"""Weight decay, consistency, top-k training and noise on what the discriminator sees, by their closed forms."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from framework import (
    Adversarial,
    Alternating,
    Consistency,
    FrameworkError,
    Hinge,
    NonSaturating,
    Ramp,
    RecipeError,
    RelativisticAverage,
    Stepwise,
    TermInputs,
    WeightDecay,
)
from framework.games.augmentation import Augmenter
from framework.games.microbatch import ImageDraws
from framework.objectives.adversarial_term import Adversarial as Term
from framework.runtime.seeding import Draws
from tests.helpers.draws import Given, Seeded
from tests.helpers.play import largest_difference, smooth_recipe, start, steps


def inputs(player: str = "discriminator", **more: Any) -> TermInputs:
    given = {"network": nn.Identity(), "discriminate": lambda x, _: x, "draw": Given(), "player": player}
    return TermInputs(**{**given, **more})


def test_weight_decay_pulls_matrices_alone() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(2, 2, 3), nn.Linear(4, 1)).double()
    WeightDecay(weight=0.5, exclude=("2.",))(inputs(network=network)).backward()
    for name in ("0.weight", "1.weight"):
        parameter = network.get_parameter(name)
        torch.testing.assert_close(parameter.grad, 0.5 * parameter.detach())
    for name in ("0.bias", "1.bias", "2.weight"):
        assert network.get_parameter(name).grad is None


def test_consistency_measures_what_the_augmentation_changes() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(2, 5, 1, 16, 16, dtype=torch.float64)
    weights = torch.randn(1, 16, 16, dtype=torch.float64)
    term, draw = Consistency(), Seeded(batch_size=5)

    def of(discriminate: Any, **options: Any) -> float:
        turn = inputs(real=real, fake=fake, draw=draw, discriminate=discriminate)
        return float(Consistency(**options).value(turn))

    def linear(images: Tensor, labels: Any) -> Tensor:
        return (images * weights).sum((1, 2, 3))

    assert of(lambda images, _: images.new_zeros(len(images))) == 0
    expected = {}
    for name, images in {"real": real, "fake": fake}.items():
        moved = term.augmentation(images, strength=1.0, draw=draw)
        assert not torch.equal(moved, images)
        expected[name] = float(((moved - images) * weights).sum((1, 2, 3)).square().mean())
    assert of(linear) == pytest.approx(expected["real"] + expected["fake"])
    assert of(linear, fake=False) == pytest.approx(expected["real"])
    assert of(linear, real=False) == pytest.approx(expected["fake"])
    with pytest.raises(FrameworkError, match="leave nothing to regularise"):
        Consistency(real=False, fake=False)


def test_top_k_is_the_loss_of_the_best_samples() -> None:
    logits = torch.tensor([0.5, -2.0, 3.0, 0.5, -1.0], dtype=torch.float64, requires_grad=True)
    half = Stepwise(factor=0.5, every_images=100, least=0.25)
    term = Adversarial(loss=NonSaturating(), top_k=half)

    def value(images_seen: int) -> Tensor:
        return term.value(inputs("generator", fake_logits=logits, images_seen=images_seen))

    torch.testing.assert_close(value(0), NonSaturating().generator(logits), rtol=0, atol=0)
    # Three of five: the largest, and both of those that tie; two of five (0.25 * 5, rounded up): the first of these.
    torch.testing.assert_close(value(100), NonSaturating().generator(logits[[2, 0, 3]]))
    torch.testing.assert_close(value(200), NonSaturating().generator(logits[[2, 0]]))
    value(200).backward()
    assert logits.grad is not None
    assert logits.grad.ne(0).tolist() == [True, False, True, False, False]
    turn = inputs("discriminator", fake_logits=logits, real_logits=logits, images_seen=200)
    torch.testing.assert_close(term.value(turn), NonSaturating().discriminator(logits, logits), rtol=0, atol=0)


def test_top_k_says_what_it_cannot_do() -> None:
    with pytest.raises(FrameworkError, match="RelativisticAverage compares them with real ones"):
        Term(loss=RelativisticAverage(), top_k=Stepwise(factor=0.9, every_images=10, least=0.5))
    with pytest.raises(FrameworkError, match="must be shares above 0 and at most 1"):
        Term(loss=Hinge(), top_k=Ramp(start=1.0, end=0.0, images=10))
    patches = inputs("generator", fake_logits=torch.zeros(2, 3))
    with pytest.raises(FrameworkError, match=r"takes one logit per sample, not the shape \(2, 3\)"):
        Term(loss=Hinge(), top_k=Ramp(start=1.0, end=0.5, images=10)).value(patches)


def test_steps_of_a_schedule() -> None:
    schedule = Stepwise(factor=0.5, every_images=10, least=0.2)
    assert [schedule.at(images) for images in (0, 9, 10, 19, 20, 29, 30, 10**9)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
        0.2,
        0.2,
    ]


def draws() -> ImageDraws:
    place: dict[str, Any] = {"rows": slice(0, 500), "device": torch.device("cpu"), "dtype": torch.float64}
    return ImageDraws(draws=Draws(seed=0, images_seen=0), purpose="turn", batch_size=500, **place)


def test_noise_is_added_to_all_that_the_discriminator_sees_until_it_has_fallen_to_0() -> None:
    noise = Ramp(start=0.4, end=0.0, images=1_000, shape="linear")
    augmenter = Augmenter(None, {}, undecided_logit=None, input_noise=noise)
    network = nn.Identity()
    network.forward = cast(Any, lambda samples, labels: samples)
    samples = torch.zeros(500, 40, dtype=torch.float64)
    seen = {}
    for images_seen, deviation in ((0, 0.4), (500, 0.2)):
        discriminate = augmenter.through(network, images_seen=images_seen, draw=draws())
        seen[images_seen] = {what: discriminate(what)(samples, None) for what in ("real", "fake")}
        for values in seen[images_seen].values():
            # The standard error of a deviation estimated from 20,000 numbers is 0.5 percent of it.
            assert float(values.std()) == pytest.approx(deviation, rel=0.025)
        assert torch.equal(discriminate("real")(samples, None), seen[images_seen]["real"]), (
            "all calls of a name are alike"
        )
    assert not torch.equal(seen[0]["real"], seen[0]["fake"])
    torch.testing.assert_close(seen[0]["real"], 2 * seen[500]["real"])
    assert augmenter.through(network, images_seen=1_000, draw=draws())("real") is network


def test_a_game_plays_with_noise_in_both_turns() -> None:
    games = [Alternating(loss=NonSaturating(), input_noise=std) for std in (0.0, 1e-12, 0.5)]
    plain, hardly, noisy = (steps(start(smooth_recipe(game=game), dtype=torch.float64), count=1) for game in games)
    for name in ("scores/loss/D", "scores/loss/G"):
        assert largest_difference(plain, hardly, name) < 1e-9
        assert largest_difference(plain, noisy, name) > 1e-4
    with pytest.raises(RecipeError, match=r"input_noise=-0.1 must not be negative"):
        Alternating(loss=NonSaturating(), input_noise=-0.1)
