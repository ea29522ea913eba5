"""The terms of a stacked GAN on numbers that are easy to check, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import FeatureCondition, FrameworkError, LabelCondition, NoiseEntropy, RecipeError, StackedGAN
from framework.networks.stacked import Judged
from framework.objectives.adversarial import NonSaturating
from framework.objectives.terms import Term, TermInputs
from tests.helpers.draws import Given


def inputs(*, noise: Any = None, **tensors: Tensor) -> TermInputs:
    unused: Any = None
    outputs = {} if noise is None else {"fake": Judged(logits=(torch.zeros(2),), noise=noise)}
    return TermInputs(
        network=nn.Identity(), discriminate=unused, draw=Given(), player="generator", outputs=outputs, tensors=tensors
    )


def test_the_label_condition_is_the_cross_entropy_of_the_class_that_was_asked_for() -> None:
    """Of 3 classes, one twice as likely as each other: the wrong label costs log 4, the right one log 2."""
    logits = torch.tensor([[0.0, math.log(2.0), 0.0]]).expand(2, 3)
    asked = torch.tensor([1, 2])
    value = LabelCondition(weight=3.0)(inputs(generated_classes=logits, generated_label=asked))
    assert float(value) == pytest.approx(3.0 * (math.log(2) + math.log(4)) / 2)


def test_the_feature_condition_is_a_mean_over_all_numbers() -> None:
    found, asked = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    assert float(FeatureCondition()(inputs(recovered_features=found, condition=asked))) == pytest.approx(10 / 4)


def test_the_entropy_is_a_mean_over_the_numbers_of_a_level_and_a_sum_over_levels() -> None:
    z1, z0 = torch.tensor([[0.5], [0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    read = (torch.zeros(2, 1), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert float(NoiseEntropy().value(inputs(noise=read, z1=z1, z0=z0))) == pytest.approx(0.25 / 2 + 2 / 4)
    assert NoiseEntropy().weight == 10.0


@pytest.mark.parametrize(
    ("term", "given", "why"),
    [
        (LabelCondition(), {}, "turn has no tensor 'generated_classes'"),
        (
            FeatureCondition(),
            {"recovered_features": torch.zeros(2, 3), "condition": torch.zeros(2, 1)},
            r"recovered_features and condition have the shapes \(2, 3\) and \(2, 1\)",
        ),
        (NoiseEntropy(), {}, "must return a dataclass whose field `noise` is a tuple of 2 tensors"),
        (NoiseEntropy(), {"noise": (torch.zeros(2, 1),)}, "a tuple of 2 tensors"),
        (
            NoiseEntropy(),
            {"noise": (torch.zeros(2, 1), torch.zeros(2, 3)), "z1": torch.zeros(2, 1), "z0": torch.zeros(2, 2)},
            r"the noise that was read and z0 have the shapes \(2, 3\) and \(2, 2\)",
        ),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(term: Term, given: dict[str, Any], why: str) -> None:
    with pytest.raises(FrameworkError, match=why):
        term.value(inputs(**given))


@pytest.mark.parametrize("term", [LabelCondition(), FeatureCondition()])
def test_conditions_are_the_generators(term: Term) -> None:
    with pytest.raises(
        RecipeError, match=f"game.discriminator_terms: {type(term).__name__} is a term of the generator"
    ):
        StackedGAN(loss=NonSaturating(), joint_after_images=0, discriminator_terms=(term,))
