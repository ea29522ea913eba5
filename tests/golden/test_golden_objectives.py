"""Adversarial losses and penalties against recorded results of public implementations."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks import sagan
from framework.objectives.adversarial import AdversarialLoss, Hinge, LeastSquares, NonSaturating, Wasserstein
from framework.objectives.penalties import R1, GradientPenalty, Orthogonal, gradient_penalty
from framework.objectives.terms import TermInputs
from tests.helpers.draws import Given

from . import Case, load
from .weights import MIMICRY_DISCRIMINATOR, fill, renamed

FP32, FP64 = 1e-6, 1e-12
SECOND_ORDER = 1e-5

STUDIOGAN_LOSSES: dict[str, AdversarialLoss] = {
    # Both peers' "vanilla" / "minimax" generator loss is the non-saturating one.
    "vanilla": NonSaturating(),
    "logistic": NonSaturating(),
    "ls": LeastSquares(),
    "hinge": Hinge(),
    "wasserstein": Wasserstein(),
}
MIMICRY_LOSSES: dict[str, AdversarialLoss] = {"hinge": Hinge(), "minimax": NonSaturating(), "wass": Wasserstein()}


def test_losses_of_biggan() -> None:
    case = load("biggan_ops", "losses")
    real, fake = case.inputs["dis_real"].squeeze(1), case.inputs["dis_fake"].squeeze(1)
    for name, loss in {"hinge": Hinge(), "ns": NonSaturating()}.items():
        recorded = case.outputs[f"{name}_D_real"] + case.outputs[f"{name}_D_fake"]
        case.agrees(loss.discriminator(real, fake), recorded, tolerance=FP64)
        case.agrees(loss.generator(fake), case.outputs[f"{name}_G"], tolerance=FP64)


@pytest.mark.parametrize("name", STUDIOGAN_LOSSES)
def test_losses_of_studiogan(name: str) -> None:
    case, loss = load("studiogan_ops", "adv_losses"), STUDIOGAN_LOSSES[name]
    real, fake = case.inputs["real"], case.inputs["fake"]
    case.agrees(loss.discriminator(real, fake), case.outputs[f"D_{name}"], tolerance=FP32)
    case.agrees(loss.generator(fake), case.outputs[f"G_{name}"], tolerance=FP32)


def test_losses_of_mimicry() -> None:
    case = load("mimicry_ops", "losses")
    real, fake = case.inputs["real"].squeeze(1), case.inputs["fake"].squeeze(1)
    for name, loss in MIMICRY_LOSSES.items():
        case.agrees(loss.discriminator(real, fake), case.outputs[f"{name}_D"], tolerance=FP32)
        case.agrees(loss.generator(fake), case.outputs[f"{name}_G"], tolerance=FP32)
    # The peer adds 1e-8 inside the logarithm.
    case.agrees(NonSaturating().generator(fake), case.outputs["ns_G"], tolerance=FP32)


class SoftplusCritic(nn.Module):
    """The small twice-differentiable discriminator under StudioGAN's recorded penalties."""

    def __init__(self, params: dict[str, Tensor]) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.l = nn.Linear(64, 1)
        self.load_state_dict(params)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.l(functional.softplus(self.c(images)).flatten(1)).squeeze(1)


def compare_penalty(case: Case, network: nn.Module, penalty: Tensor) -> None:
    case.agrees(penalty, case.outputs["penalty"], tolerance=SECOND_ORDER)
    penalty.backward()
    for name, parameter in network.named_parameters():
        recorded = case.gradients[name] if name in case.gradients else torch.zeros_like(parameter)
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        case.agrees(gradient, recorded, tolerance=SECOND_ORDER)


def test_gradient_penalty_of_studiogan() -> None:
    case = load("studiogan_ops", "penalty/wgan_gp")
    network = SoftplusCritic(case.params)
    inputs = TermInputs(
        network=network,
        real=case.inputs["real"],
        fake=case.inputs["fake"],
        discriminate=network,
        draw=Given({"gradient_penalty": case.draws["00_rand"].squeeze(1)}),
    )
    compare_penalty(case, network, GradientPenalty(weight=1)(inputs))


def test_dragan_of_studiogan() -> None:
    # DRAGAN penalises between real images and perturbed ones: real + alpha * half a standard deviation of noise.
    case = load("studiogan_ops", "penalty/dra")
    network, real = SoftplusCritic(case.params), case.inputs["real"]
    perturbed = real + 0.5 * real.std() * case.draws["01_rand"]
    compare_penalty(case, network, gradient_penalty(network, perturbed, real, alpha=case.draws["00_rand"].flatten()))


@pytest.mark.parametrize("name", ["penalty/r1", "penalty/r1_stylegan"])
def test_r1_of_studiogan(name: str) -> None:
    case = load("studiogan_ops", name)
    network = SoftplusCritic(case.params)
    compare_penalty(
        case,
        network,
        R1(weight=1)(TermInputs(network=network, real=case.inputs["real"], discriminate=network, draw=Given())),
    )


def test_gradient_penalty_of_mimicry() -> None:
    case = load("mimicry_ops", "wgan_gp")
    network = sagan.Discriminator(resolution=32, width=2, spectral=False, rectified_shortcut=True)
    num_pixels = 64  # the peer averages features over the last map where we sum
    state = renamed(case.params, "", MIMICRY_DISCRIMINATOR)
    state["linear.weight"] /= num_pixels
    fill(network, state)
    real, fake = case.inputs["real"], case.inputs["fake"]
    case.agrees(network(real)[:, None], case.outputs["D_real"], tolerance=FP32)
    penalty = GradientPenalty(weight=10)(
        TermInputs(
            network=network,
            real=real,
            fake=fake,
            discriminate=network,
            draw=Given({"gradient_penalty": case.draws["00_rand"].squeeze(1)}),
        )
    )
    case.agrees(penalty, case.outputs["gp"], tolerance=SECOND_ORDER)
    penalty.backward()
    recorded = renamed(case.gradients, "", MIMICRY_DISCRIMINATOR)
    recorded["linear.weight"] *= num_pixels
    for name, gradient in recorded.items():
        case.agrees(network.get_parameter(name).grad, gradient, tolerance=SECOND_ORDER)


@pytest.mark.parametrize("kind", ["modified", "default"])
def test_orthogonal_of_biggan(kind: str) -> None:
    case = load("biggan_ops", f"ortho_reg/{kind}")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 5)).double()
    network.load_state_dict(case.params)
    penalty = Orthogonal(weight=1e-2, modified=kind == "modified")
    penalty(TermInputs(network=network, discriminate=network, draw=Given())).backward()
    for name in ("0.weight", "2.weight"):
        case.agrees(network.get_parameter(name).grad, case.gradients[name], tolerance=FP64)
    for name in ("0.bias", "2.bias"):
        assert network.get_parameter(name).grad is None
        assert not case.gradients[name].any()
