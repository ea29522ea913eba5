"""A whole tiny StyleGAN2 against recorded results: forwards, truncation, and the four losses with all gradients."""

from __future__ import annotations

import torch
from torch import nn

from framework.networks import stylegan2
from framework.objectives.adversarial import NonSaturating
from framework.objectives.path_length import MEMORY, PathLength
from framework.objectives.penalties import R1
from framework.objectives.terms import TermInputs
from tests.helpers.draws import Given

from . import Case, load
from .nvidia import renamed

FILE = "stylegan2_tiny_uncond_resnet"
TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4
"""Of each tensor's largest value; the recordings are fp32. Gradients sum over many pixels in another order."""

WIDTH = {"resolution": 16, "channel_base": 128, "channel_max": 12}


def networks(case: Case) -> tuple[nn.Module, nn.Module]:
    generator = stylegan2.Generator(**WIDTH, z_dim=16, w_dim=16, mapping_layers=3)
    discriminator = stylegan2.Discriminator(**WIDTH, stddev_group_size=2)
    generator.load_state_dict(renamed(case.params, "G."))
    discriminator.load_state_dict(renamed(case.params, "D."))
    return generator, discriminator


def test_forward() -> None:
    case = load(FILE, "net")
    generator, discriminator = networks(case)
    generator.eval(), discriminator.eval()
    z = case.inputs["z"]
    case.agrees(generator.mapping(z), case.outputs["ws"], tolerance=TOLERANCE)
    images = {
        "img_noise_const": generator(z, noise="const"),
        "img_noise_none": generator(z, noise="none"),
        "img_trunc0p7_const": generator(z, psi=0.7),
        "img_trunc0p5_cut4_const": generator(z, psi=0.5, cutoff=4),
    }
    for name, ours in images.items():
        case.agrees(ours, case.outputs[name], tolerance=TOLERANCE)
    case.agrees(discriminator(case.inputs["real"])[:, None], case.outputs["D_real"], tolerance=TOLERANCE)
    case.agrees(discriminator(images["img_noise_const"])[:, None], case.outputs["D_fake"], tolerance=TOLERANCE)


def compare_gradients(case: Case, network: nn.Module, *, bias_tolerance: float = GRADIENT_TOLERANCE) -> None:
    recorded, parameters = renamed(case.gradients), dict(network.named_parameters())
    for name, gradient in recorded.items():
        tolerance = bias_tolerance if name.endswith("bias") else GRADIENT_TOLERANCE
        case.agrees(parameters.pop(name).grad, gradient, tolerance=tolerance)
    # The recording leaves out parameters that the loss does not depend on.
    assert all(p.grad is None or not p.grad.any() for p in parameters.values())


def inputs(network: nn.Module, discriminate: nn.Module, **values: object) -> TermInputs:
    return TermInputs(network=network, discriminate=discriminate, **{"draw": Given(), **values})


def test_generator_loss() -> None:
    net, case = load(FILE, "net"), load(FILE, "loss_Gmain")
    generator, discriminator = networks(net)
    logits = discriminator(generator(net.inputs["z"]))
    case.agrees(logits[:, None], case.outputs["Loss.scores.fake"], tolerance=TOLERANCE)
    loss = NonSaturating().generator(logits)
    case.agrees(loss, case.outputs["Loss.G.loss"].mean(), tolerance=TOLERANCE)
    loss.backward()
    compare_gradients(case, generator)


def test_path_length() -> None:
    net, case = load(FILE, "net"), load(FILE, "loss_Greg")
    generator, discriminator = networks(net)
    # The recording measures the first two of four latents; rows 0 and 2 are ours to measure.
    order = torch.tensor([0, 2, 1, 3])
    noise = case.draws["00_randn_like"]
    draw = Given({"path_length/noise": torch.cat([noise, torch.zeros_like(noise)])[order]})
    generator.stochastic = lambda draw: {}  # stored noise and no mixing, as recorded
    memory = {MEMORY: torch.tensor(0.1, dtype=torch.float64)}
    z, rows = net.inputs["z"][order], torch.arange(4)
    penalty = PathLength(every=1)(inputs(generator, discriminator, draw=draw, z=z, rows=rows, memory=memory))
    case.agrees(penalty, case.outputs["Loss.G.reg"].mean(), tolerance=TOLERANCE)
    case.agrees(penalty / 2, case.outputs["Loss.pl_penalty"].mean(), tolerance=TOLERANCE)
    case.agrees(memory[MEMORY], case.outputs["pl_mean_after"], tolerance=TOLERANCE)
    penalty.backward()
    compare_gradients(case, generator)


def test_discriminator_loss() -> None:
    net, case = load(FILE, "net"), load(FILE, "loss_Dmain")
    generator, discriminator = networks(net)
    fake_logits = discriminator(generator(net.inputs["z"]).detach())
    real_logits = discriminator(net.inputs["real"])
    case.agrees(fake_logits[:, None], case.outputs["Loss.scores.fake"], tolerance=TOLERANCE)
    case.agrees(real_logits[:, None], case.outputs["Loss.scores.real"], tolerance=TOLERANCE)
    loss = NonSaturating().discriminator(real_logits, fake_logits)
    case.agrees(loss, case.outputs["Loss.D.loss"].mean(), tolerance=TOLERANCE)
    loss.backward()
    compare_gradients(case, discriminator)


def test_r1() -> None:
    net, case = load(FILE, "net"), load(FILE, "loss_Dreg")
    _, discriminator = networks(net)
    real = net.inputs["real"].double()
    discriminator.double()
    case.agrees(discriminator(real)[:, None], case.outputs["Loss.scores.real"], tolerance=TOLERANCE)
    penalty = R1(weight=2.5)(inputs(discriminator, discriminator, real=real))
    case.agrees(penalty, case.outputs["Loss.D.reg"].mean(), tolerance=TOLERANCE)
    penalty.backward()
    # Leaky ReLUs bend nowhere, so a bias enters R1 through the minibatch deviation alone, whose second derivatives
    # nearly cancel: the fp32 recording is 3e-4 away from our fp64 there, and our own fp32 6e-4.
    compare_gradients(case, discriminator, bias_tolerance=1e-3)
