"""Adversarial losses with their gradients against recorded values: classic ones, relativistic ones, f-GAN.

Everything is float64; the tolerance of 1e-10 relative is that of the recorded values (f-GAN's were derived twice, the
second time by a numerical conjugate, and central differences checked the classic gradients).
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from framework.objectives.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    MaximumLikelihood,
    Minimax,
    NonSaturating,
    Wasserstein,
)
from framework.objectives.divergences import NAMED
from framework.objectives.fgan import FGAN
from framework.objectives.relativistic import RelativisticAverage, RelativisticCentered, RelativisticPairing
from framework.objectives.soft_labels import SoftLabels

from . import FOLDER, Case, load, names

FP64 = 1e-10

CLASSIC: dict[str, AdversarialLoss] = {
    "minimax": Minimax(),
    "non_saturating": NonSaturating(),
    "maximum_likelihood": MaximumLikelihood(),
    "lsgan_01": LeastSquares(),
    "lsgan_pearson": LeastSquares(fake_target=-1.0, real_target=1.0, generator_target=0.0),
    "wasserstein": Wasserstein(),
    "hinge": Hinge(),
    "one_sided_label_smoothing_0.9": SoftLabels(),
}

KINDS = {"S": "logistic", "LS": "least_squares", "Hinge": "hinge"}
RELATIVISTIC: dict[str, AdversarialLoss] = {
    "paper_code/RSGAN": RelativisticPairing(),
    **{f"paper_code/Ra{k}GAN": RelativisticAverage(kind=v, convention="relativistic_gan") for k, v in KINDS.items()},
    **{f"f_divergences_code/Ra{k}GAN": RelativisticAverage(kind=v) for k, v in KINDS.items()},
    **{f"f_divergences_code/Rc{k}GAN": RelativisticCentered(kind=v) for k, v in KINDS.items()},
    **{
        f"f_divergences_code/Rp{k}GAN": RelativisticPairing(kind=v, convention="relativistic_f_divergences")
        for k, v in KINDS.items()
    },
}

DIVERGENCES = {
    "total_variation": "total_variation",
    "kl": "kl",
    "reverse_kl": "reverse_kl",
    "pearson_chi2": "pearson",
    "neyman_chi2": "neyman",
    "squared_hellinger": "squared_hellinger",
    "jensen_shannon": "jensen_shannon",
    "gan": "gan",
}


def compare(case: Case, loss: Tensor, recorded: Tensor, gradients: dict[str, Tensor], leaves: dict[str, Tensor]) -> int:
    """Compare a loss and its gradient in each leaf; returns how many numbers were."""
    case.agrees(loss, recorded, tolerance=FP64)
    found = torch.autograd.grad(loss, [leaves[name] for name in gradients], retain_graph=True)
    for name, gradient in zip(gradients, found, strict=True):
        case.agrees(gradient, gradients[name], tolerance=FP64)
    return 1 + sum(value.numel() for value in gradients.values())


def recorded_gradients(case: Case, of: str) -> dict[str, Tensor]:
    prefix = f"{of}/"
    return {k.removeprefix(prefix): v for k, v in case.gradients.items() if k.startswith(prefix)}


def leaves_of(case: Case) -> dict[str, Tensor]:
    return {name: value.requires_grad_(True) for name, value in case.inputs.items()}


def test_every_recorded_case_has_its_loss() -> None:
    assert set(names("classic_objectives")) == set(CLASSIC)
    assert set(names("relativistic_losses")) == {f"{name}/{player}" for name in RELATIVISTIC for player in "DG"}
    assert set(names("fgan_objectives")) == {*DIVERGENCES, *(f"tight/{name}" for name in DIVERGENCES)}


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_losses(name: str) -> None:
    case, loss = load("classic_objectives", name), CLASSIC[name]
    leaves = leaves_of(case)
    real, fake = leaves["real_logits"], leaves["fake_logits"]
    values = {"loss_D": loss.discriminator(real, fake), "loss_G": loss.generator(fake)}
    count = 0
    for of, value in values.items():
        gradients = recorded_gradients(case, of)
        assert set(gradients) == ({"real_logits", "fake_logits"} if of == "loss_D" else {"fake_logits"})
        count += compare(case, value, case.outputs[of], gradients, leaves)
    assert count == 1 + 12 + 1 + 6


@pytest.mark.parametrize("player", ["D", "G"])
@pytest.mark.parametrize("name", RELATIVISTIC)
def test_relativistic_losses(name: str, player: str) -> None:
    case, loss = load("relativistic_losses", f"{name}/{player}"), RELATIVISTIC[name]
    leaves = leaves_of(case)
    real, fake = leaves["real_logits"], leaves["fake_logits"]
    value = loss.discriminator(real, fake) if player == "D" else loss.generator(fake, real)
    assert set(case.gradients) == {"real_logits", "fake_logits"}
    assert compare(case, value, case.outputs["loss"], case.gradients, leaves) == 13


@pytest.mark.parametrize("name", DIVERGENCES)
def test_fgan_losses(name: str) -> None:
    case, divergence = load("fgan_objectives", name), NAMED[DIVERGENCES[name]]
    leaves = leaves_of(case)
    real, fake = leaves["v_real"], leaves["v_fake"]
    case.agrees(divergence.activation(real), case.outputs["T_real"], tolerance=FP64)
    case.agrees(divergence.activation(fake), case.outputs["T_fake"], tolerance=FP64)
    case.agrees(divergence.conjugate(fake), case.outputs["conjugate_fake"], tolerance=FP64)
    practical = FGAN(divergence=DIVERGENCES[name])
    original = FGAN(divergence=DIVERGENCES[name], generator_loss="original")
    case.agrees(-practical.discriminator(real, fake), case.outputs["bound"], tolerance=FP64)
    values = {
        "loss_D": practical.discriminator(real, fake),
        "loss_G_practical": practical.generator(fake),
        "loss_G_minimax": original.generator(fake),
    }
    for of, value in values.items():
        gradients = recorded_gradients(case, of)
        assert set(gradients) == ({"v_real", "v_fake"} if of == "loss_D" else {"v_fake"})
        compare(case, value, case.outputs[of], gradients, leaves)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_undecided_output_is_where_the_activation_is_the_recorded_slope_at_one(name: str) -> None:
    with np.load(FOLDER / "fgan_objectives.npz", allow_pickle=False) as archive:
        slope = json.loads(str(archive["meta"]))[name]["kwargs"]["f_prime_1"]
    case, divergence = load("fgan_objectives", name), NAMED[DIVERGENCES[name]]
    # Total variation has a corner at 1: any T is undecided, the recorded one is that of v = 0.
    undecided = 0.0 if name == "total_variation" else divergence.undecided
    assert undecided is not None
    found = divergence.activation(torch.tensor(undecided, dtype=torch.float64))
    case.agrees(found, torch.tensor(slope, dtype=torch.float64), tolerance=FP64, scale=1.0)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_best_discriminator_of_two_known_distributions_finds_their_divergence(name: str) -> None:
    """`T = f'(p / q)`, for two distributions of four outcomes: the loss is minus the divergence."""
    case, divergence = load("fgan_objectives", f"tight/{name}"), NAMED[DIVERGENCES[name]]
    p, q, best = case.inputs["p"], case.inputs["q"], case.outputs["T_star"]
    raw = inverse(divergence.activation, best)
    bound = (p * divergence.activation(raw)).sum() - (q * divergence.conjugate(raw)).sum()
    case.agrees(bound, case.outputs["divergence"], tolerance=FP64)
    direct = (q * divergence.f(p / q)).sum()
    case.agrees(direct, case.outputs["divergence"], tolerance=FP64)
    assert bound <= divergence.largest


def inverse(activation: Callable[[Tensor], Tensor], wanted: Tensor) -> Tensor:
    """The raw outputs (N,) in [-50, 50] at which an increasing activation takes some values, by bisection."""
    low, high = torch.full_like(wanted, -50.0), torch.full_like(wanted, 50.0)
    for _ in range(200):
        middle = (low + high) / 2
        above = activation(middle) >= wanted
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return high
