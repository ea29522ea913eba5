"""Terms that read a discriminator's heads: closed forms, what is logged, and what is said of what is missing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import (
    Alternating,
    AuxiliaryClassifier,
    Categorical,
    FrameworkError,
    Gaussian,
    GeneratorMutualInformation,
    MutualInformation,
    NonSaturating,
    RecipeError,
    TermInputs,
    Uniform,
)
from framework.networks.blocks.heads import DiscriminatorOutput
from framework.objectives.mutual_information import entropy
from tests.helpers.draws import Given

N, CLASSES = 6, 10
LABELS = torch.tensor([0, 3, 9, 3, 1, 7])
LOGITS = torch.zeros(N)


def inputs(player: str = "discriminator", **more: Any) -> TermInputs:
    given = {"network": nn.Identity(), "discriminate": lambda x, _: x, "draw": Given(), "player": player}
    return TermInputs(**{**given, **more})


def judged(**heads: Tensor) -> DiscriminatorOutput:
    return DiscriminatorOutput(logits=LOGITS, **heads)


def certain(labels: Tensor) -> Tensor:
    return 100.0 * torch.nn.functional.one_hot(labels, CLASSES).double()


DIGIT = MutualInformation(codes=(Categorical(CLASSES, name="digit"),))


def test_the_bound_of_a_categorical_code_lies_between_nothing_and_its_entropy() -> None:
    for codes, bound in ((torch.zeros(N, CLASSES).double(), 0.0), (certain(LABELS), math.log(10))):
        turn = inputs(outputs={"fake": judged(codes=codes)}, tensors={"digit": LABELS})
        # ln 10 - 9 e^-100 is ln 10 in float64.
        assert float(DIGIT.value(turn)) == pytest.approx(-bound, abs=1e-14)
        assert float(DIGIT.further_metrics(turn)["information/digit/D"]) == pytest.approx(bound, abs=1e-14)
    assert math.log(10) == pytest.approx(2.302585, abs=1e-6)
    wrong = inputs(outputs={"fake": judged(codes=certain((LABELS + 1) % 10))}, tensors={"digit": LABELS})
    assert float(DIGIT.value(wrong)) > 90, "certain of another class"


@pytest.mark.parametrize("variance", ["one", "predicted"])
def test_the_bounds_of_continuous_codes_by_their_closed_forms(variance: Any) -> None:
    style, size = Uniform(2, name="style", low=-1.0, high=3.0), Gaussian(1, name="size")
    term = MutualInformation(codes=(style, size), variance=variance)
    drawn = {"style": torch.rand(N, 2).double() * 4 - 1, "size": torch.randn(N, 1).double()}
    mean = {"style": torch.randn(N, 2).double(), "size": torch.randn(N, 1).double()}
    deviation = {name: torch.rand_like(value) + 0.5 for name, value in mean.items()}
    if variance == "one":
        deviation = {name: torch.ones_like(value) for name, value in mean.items()}
        codes = torch.cat([mean["style"], mean["size"]], dim=1)
    else:
        pairs = [(mean[name], 2 * deviation[name].log()) for name in ("style", "size")]
        codes = torch.cat([part for pair in pairs for part in pair], dim=1)
    assert term.width == codes.shape[1] == (3 if variance == "one" else 6)
    found = term.further_metrics(inputs("generator", outputs={"fake": judged(codes=codes)}, tensors=drawn))
    known = {"style": 2 * math.log(4), "size": 0.5 * math.log(2 * math.pi * math.e)}
    for name, value in known.items():
        likelihood = torch.distributions.Normal(mean[name], deviation[name]).log_prob(drawn[name]).sum(1).mean()
        assert float(found[f"information/{name}/G"]) == pytest.approx(float(likelihood) + value, rel=1e-12)
    assert entropy(style) == pytest.approx(known["style"])
    assert entropy(size) == pytest.approx(known["size"])


def test_a_code_that_tells_nothing_has_no_information() -> None:
    """Q is the code's own distribution: the bound is 0, on average over draws whose mean square is 1."""
    size = MutualInformation(codes=(Gaussian(1, name="size"),), variance="predicted")
    drawn = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]).double()[:, None]
    turn = inputs(outputs={"fake": judged(codes=torch.zeros(N, 2).double())}, tensors={"size": drawn})
    assert float(size.value(turn)) == pytest.approx(0, abs=1e-14)


def test_accuracies_are_logged_in_the_discriminators_turn() -> None:
    half = torch.cat([certain(LABELS[:3]), certain((LABELS[3:] + 1) % 10)])
    outputs = {"real": judged(classes=certain(LABELS)), "fake": judged(classes=half)}
    term = AuxiliaryClassifier(weight=0.1)
    turn = inputs(outputs=outputs, labels=LABELS, fake_labels=LABELS)
    assert {name: float(v) for name, v in term.further_metrics(turn).items()} == {
        "accuracy/real": 1.0,
        "accuracy/fake": 0.5,
    }
    assert term.further_metrics(replace(turn, player="generator")) == {}
    assert float(term.value(turn)) == pytest.approx(50, abs=1e-9), "three of six are wrong by 100"
    assert float(term(turn)) == pytest.approx(5, abs=1e-9)
    assert float(replace(term, reading="real_only").value(turn)) == pytest.approx(0, abs=1e-9)
    logged = term.metrics(torch.tensor(2.0), torch.tensor(0.2), player="generator")
    assert set(logged) == {"term/AuxiliaryClassifier/G", "term/AuxiliaryClassifier/G_weighted"}


def test_what_is_missing_is_named_with_the_remedy() -> None:
    classifier, own = AuxiliaryClassifier(), GeneratorMutualInformation(codes=DIGIT.codes)
    plain = {"real": LOGITS, "fake": LOGITS}
    cases: list[tuple[Any, TermInputs, str]] = [
        (classifier, inputs(outputs=plain), r"reads `classes` .* a Tensor without it: give the discriminator a class"),
        (classifier, inputs(outputs={"real": judged(), "fake": judged()}), r"DiscriminatorOutput without it"),
        (classifier, inputs(), r"needs what the discriminator returns of real samples.*lazy_steps=False"),
        (classifier, inputs("generator"), r"returns of generated samples, which the generator's turn"),
        (classifier, inputs(outputs={"real": judged(classes=LOGITS[:, None])}), r"needs labels.*the data has none"),
        (classifier, inputs(outputs={"real": judged(classes=LOGITS)}), r"has the shape \(6,\), it must be \(N, K\)"),
        (DIGIT, inputs(outputs=plain), r"reads `codes`.*codes=10\), or use GeneratorMutualInformation"),
        (DIGIT, inputs(outputs={"fake": judged(codes=torch.zeros(N, 9))}), r"Q has 9 outputs, the codes take 10"),
        (DIGIT, inputs(outputs={"fake": judged(codes=torch.zeros(N, 10))}), r"has no tensor 'digit'"),
        (own, inputs("generator", outputs={"fake": judged()}), r"reads `features`.*infogan.Discriminator"),
        (
            own,
            inputs("generator", outputs={"fake": judged(features=torch.zeros(N, 3))}),
            r"Identity takes no `features`",
        ),
    ]
    for term, turn, message in cases:
        with pytest.raises(FrameworkError, match=message):
            term.value(turn)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ((), "must be one or more"),
        ((Categorical(2, name="a"), Uniform(1, name="a")), "each with its own name"),
        ((Uniform(1),), "the code 'z' needs a name of letters"),
        ((Uniform(1, name="a b"),), "the code 'a b' needs a name of letters"),
    ],
)
def test_codes_need_names_of_their_own(codes: Any, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        MutualInformation(codes=codes)


def test_a_head_of_the_generator_is_no_term_of_the_discriminator() -> None:
    own = GeneratorMutualInformation(codes=DIGIT.codes)
    Alternating(loss=NonSaturating(), generator_terms=(own,))
    with pytest.raises(RecipeError, match="GeneratorMutualInformation is a term of the generator"):
        Alternating(loss=NonSaturating(), discriminator_terms=(own,))
