"""Terms and layers of discriminators with heads against recorded results of public implementations, with gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework.networks.blocks.heads import DiscriminatorOutput
from framework.networks.blocks.minibatch_discrimination import MinibatchDiscrimination
from framework.networks.latents import Categorical, Uniform
from framework.objectives.adversarial import AdversarialLoss, Hinge, NonSaturating
from framework.objectives.auxiliary_classifier import AuxiliaryClassifier
from framework.objectives.mutual_information import GeneratorMutualInformation, MutualInformation
from framework.objectives.terms import Term, TermInputs
from tests.helpers.draws import Given

from . import Case, load, names

FP64 = 1e-12
COMPARED: dict[str, set[str]] = {
    "acgan_losses": {"paper", "studiogan_hinge_ac", "pytorch_gan_double_softmax"},
    "infogan_q": {"openai/fix_std_True", "openai/fix_std_False", "openai/adversarial", "studiogan/normal_nll"},
    "minibatch_discrimination": {"plain", "conv_flattened", "data_dependent_init"},
}
LEFT_OUT = {
    ("infogan_q", "pytorch_gan/info_loss"): "a third optimiser, the softmax taken twice, and squared errors: no bound"
}


def test_every_recorded_case_is_compared_or_its_absence_explained() -> None:
    for file, compared in COMPARED.items():
        left_out = {name: why for (of, name), why in LEFT_OUT.items() if of == file}
        print(f"{file}: {len(compared)} of {len(names(file))} cases compared; left out: {left_out or 'none'}")
        assert compared | set(left_out) == set(names(file))
        assert not compared & set(left_out)


def inputs_of(player: str, outputs: dict[str, DiscriminatorOutput], **more: Any) -> TermInputs:
    return TermInputs(
        network=more.pop("network", nn.Identity()),
        discriminate=lambda samples, labels: samples,
        draw=Given(),
        player=player,
        outputs=outputs,
        **more,
    )


# AC-GAN: the loss, the reading of the paper, and the factors on the discriminator's and on the generator's whole loss.
CLASSIFIERS: dict[str, tuple[AdversarialLoss, AuxiliaryClassifier, float, float]] = {
    "paper": (NonSaturating(), AuxiliaryClassifier(), 1.0, 1.0),
    "studiogan_hinge_ac": (Hinge(), AuxiliaryClassifier(reading="real_only"), 1.0, 1.0),
    "pytorch_gan_double_softmax": (NonSaturating(), AuxiliaryClassifier(reading="softmax_twice"), 0.25, 0.5),
}


def classified(case: Case, player: str) -> tuple[dict[str, Tensor], TermInputs]:
    leaves = {name: value.requires_grad_() for name, value in case.inputs.items() if "logit" in name}
    outputs = {
        side: DiscriminatorOutput(logits=leaves[f"{side}_logit"], classes=leaves[f"{side}_class_logits"])
        for side in ("real", "fake")
    }
    labels = {"labels": case.inputs["real_labels"], "fake_labels": case.inputs["fake_labels"]}
    return leaves, inputs_of(player, outputs, **labels)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_auxiliary_classifiers(name: str) -> None:
    loss, term, of_discriminator, of_generator = CLASSIFIERS[name]
    for player, factor, letter in (("discriminator", of_discriminator, "D"), ("generator", of_generator, "G")):
        case = load("acgan_losses", name)
        leaves, inputs = classified(case, player)
        if player == "discriminator":
            adversarial = loss.discriminator(leaves["real_logit"], leaves["fake_logit"])
        else:
            adversarial = loss.generator(leaves["fake_logit"])
        total = factor * (adversarial + term(inputs))
        case.agrees(total, case.outputs[f"loss_{letter}"], tolerance=FP64)
        total.backward()
        recorded = {n.removeprefix(f"loss_{letter}/"): g for n, g in case.gradients.items() if f"loss_{letter}" in n}
        assert {"fake_logit", "fake_class_logits"} <= set(recorded)
        for leaf, value in leaves.items():
            gradient = torch.zeros_like(value) if value.grad is None else value.grad
            case.agrees(gradient, recorded.get(leaf, torch.zeros_like(value)), tolerance=FP64, scale=1.0)


# InfoGAN: Q's outputs are [10 logits | mean, s | mean, s], with the log variance s where it is predicted.
CODES = (Categorical(10, name="digit"), Uniform(1, name="first"), Uniform(1, name="second"))
MEANS_ALONE = [*range(11), 12]
TINY = 1e-8
"""What the recorded program adds inside logarithms and to standard deviations."""


def read_off(case: Case, codes: Tensor, term: Term, player: str) -> tuple[Tensor, dict[str, Tensor]]:
    drawn = case.inputs["continuous"]
    tensors = {"digit": case.inputs["category"], "first": drawn[:, :1], "second": drawn[:, 1:]}
    outputs = {"fake": DiscriminatorOutput(logits=codes[:, 0], codes=codes)}
    inputs = inputs_of(player, outputs, tensors=tensors)
    return term.value(inputs), term.further_metrics(inputs)


@pytest.mark.parametrize("fixed", [True, False])
def test_mutual_information_of_openai(fixed: bool) -> None:
    case = load("infogan_q", f"openai/fix_std_{fixed}")
    flat = case.inputs["q_flat"].requires_grad_()
    term = MutualInformation(codes=CODES, variance="one" if fixed else "predicted")
    assert term.width == (12 if fixed else 14)
    codes = flat[:, MEANS_ALONE] if fixed else flat
    value, metrics = read_off(case, codes, term, "discriminator")
    # log(p + 1e-8) deviates by 1e-8 / p, and log(s + 1e-8) by 1e-8 / s; there are 2 s in the sum, squared once.
    probabilities = flat.detach()[:, :10].softmax(1).gather(1, case.inputs["category"][:, None])
    spread = 1.0 if fixed else float(torch.exp(-0.5 * flat[:, [11, 13]].detach()).max())
    tolerance = 2 * TINY * max(1 / float(probabilities.min()), spread) + FP64
    recorded = {name: float(v) for name, v in case.outputs.items()}
    # The bound of the class is recorded as it is; the recorded "prior" of continuous codes is a standard normal's.
    assert abs(float(metrics["information/digit/D"]) - recorded["mi_discrete"]) <= tolerance
    uniform = float(metrics["information/first/D"] + metrics["information/second/D"])
    assert abs((2 * math.log(2) - uniform) - recorded["cross_entropy_continuous"]) <= 4 * tolerance
    offset = recorded["prior_entropy_continuous"] - 2 * math.log(2)
    case.agrees(value - offset, case.outputs["added_to_both_losses"], tolerance=tolerance)
    value.backward()
    # Squares divided by (s + 1e-8)^2 deviate by 2e-8 / s, relative to themselves; the largest is below 5.
    case.agrees(flat.grad, case.gradients["q_flat"], tolerance=10 * tolerance)


def test_adversarial_loss_of_openai() -> None:
    case, loss = load("infogan_q", "openai/adversarial"), NonSaturating()
    real, fake = case.inputs["real_d"].logit(), case.inputs["fake_d"].logit()
    smallest = min(float(p.min()) for d in case.inputs.values() for p in (d, 1 - d))
    for ours, name in ((loss.discriminator(real, fake), "discriminator"), (loss.generator(fake), "generator")):
        case.agrees(ours, case.outputs[f"{name}_loss"], tolerance=2 * TINY / smallest)


class Affine(nn.Module):
    """A generator whose Q returns the features as they are."""

    def forward(self, z: Tensor, labels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        assert features is not None
        return features


def test_normal_likelihood_of_infogan_pytorch() -> None:
    """There Q is trained with the generator, and its variance is the exponential of an output."""
    case = load("infogan_q", "studiogan/normal_nll")
    mean, variance = case.inputs["mu"].requires_grad_(), case.inputs["var"].requires_grad_()
    features = torch.cat([mean, variance.log()], dim=1)
    term = GeneratorMutualInformation(codes=(Uniform(2, name="style"),), variance="predicted")
    output = DiscriminatorOutput(logits=mean[:, 0], features=features)
    inputs = inputs_of("generator", {"fake": output}, network=Affine(), tensors={"style": case.inputs["x"]})
    value = term.value(inputs) + 2 * math.log(2)  # its loss has no entropy
    # The recorded one adds 1e-6 to 2 pi v inside the logarithm, and to 2 v under the square.
    smallest = float(variance.detach().min())
    tolerance = 1e-6 / smallest
    case.agrees(value, case.outputs["loss"], tolerance=tolerance)
    value.backward()
    case.agrees(mean.grad, case.gradients["mu"], tolerance=tolerance)
    # Its two parts, 1 / v and (x - m)^2 / v^2, cancel in part; the second deviates by twice that of 1 / v.
    case.agrees(variance.grad, case.gradients["var"], tolerance=4 * tolerance)


def layer_of(case: Case, *, form: str) -> MinibatchDiscrimination:
    inputs, kernels, dim = case.params["theta"].shape
    layer = MinibatchDiscrimination(inputs, num_kernels=kernels, kernel_dim=dim, form=form).double()  # type: ignore[arg-type]
    own = {"log_weight_scale": case.params.get("log_weight_scale"), "bias": case.params.get("b")}
    if form == "program":
        own = {key: own[key] if own[key] is not None else case.outputs[new] for key, new in NEW.items()}
    state = {"theta": case.params["theta"], **({k: v for k, v in own.items() if form == "program"})}
    layer.load_state_dict(state)
    return layer


NEW = {"log_weight_scale": "new_log_weight_scale", "bias": "new_b"}
"""The recorded names of what the data-dependent initialisation sets."""


@pytest.mark.parametrize("name", ["plain", "conv_flattened", "data_dependent_init"])
def test_minibatch_discrimination_of_the_program(name: str) -> None:
    case = load("minibatch_discrimination", name)
    layer, x = layer_of(case, form="program"), case.inputs["x"].requires_grad_()
    y = layer(x.flatten(1))
    case.agrees(y, case.outputs["y"], tolerance=FP64)
    if name == "data_dependent_init":
        return
    (y * case.inputs["dy"]).sum().backward()
    case.agrees(x.grad, case.gradients["x"], tolerance=FP64)
    for ours, theirs in {"theta": "theta", "log_weight_scale": "log_weight_scale", "bias": "b"}.items():
        case.agrees(layer.get_parameter(ours).grad, case.gradients[theirs], tolerance=FP64)


@pytest.mark.parametrize("name", ["plain", "conv_flattened"])
def test_minibatch_discrimination_of_the_paper(name: str) -> None:
    case = load("minibatch_discrimination", name)
    layer, x = layer_of(case, form="paper"), case.inputs["x"].flatten(1)
    recorded = case.outputs["o_paper_with_T_equal_theta"]
    case.agrees(layer(x)[:, x.shape[1] :], recorded, tolerance=FP64)
