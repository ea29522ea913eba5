"""Whole tiny networks against recorded results: forward, losses, parameter gradients, buffers, evaluation."""

import copy

import pytest
import torch
from torch import Tensor, nn

from framework.networks import sagan
from framework.networks.blocks.spectral import power_iteration
from framework.objectives.adversarial import Hinge

from . import Case, load
from .weights import BIGGAN, MIMICRY_DISCRIMINATOR, MIMICRY_GENERATOR, STUDIOGAN, Rules, fill, renamed, renumbered

TOLERANCE = 1e-5
"""Of the largest value of each tensor; the recordings are fp32."""

GRADIENT_TOLERANCE = 1e-4
"""The same for parameter gradients, which sum over many pixels in an order that depends on the number of threads."""

ROUNDING = 1e-6
"""Gradients below this share of the network's largest are rounding noise."""


def compare_gradients(case: Case, network: nn.Module, step: str, rules: Rules) -> None:
    recorded = renumbered(renamed(case.gradients, step, rules), network)
    parameters = dict(network.named_parameters())
    assert recorded.keys() == parameters.keys()
    # The gradient of a bias in front of a batch norm is zero up to rounding: it has no scale of its own.
    largest = max(gradient.abs().max().item() for gradient in recorded.values())
    for name, gradient in recorded.items():
        own = gradient.abs().max().item()
        scale = own if own > ROUNDING * largest else largest
        case.agrees(parameters[name].grad, gradient, tolerance=GRADIENT_TOLERANCE, scale=scale)


def turn(network: nn.Module, *inputs: Tensor) -> Tensor:
    """A training forward as the peers make it: spectral norm iterates first."""
    power_iteration(network)
    return network(*inputs)


def iterated(network: nn.Module) -> nn.Module:
    """A copy after one more power iteration: what peers evaluate that iterate without keeping the result."""
    network = copy.deepcopy(network)
    power_iteration(network)
    return network


@pytest.mark.parametrize("spectral", [True, False], ids=["sagan", "sngan"])
def test_studiogan(spectral: bool) -> None:
    case = load("studiogan_tiny_sagan32" if spectral else "studiogan_tiny_sngan32", "net")
    options = {"resolution": 32, "classes": 5, "width": 4 if spectral else 3, "attention_at": 16 if spectral else None}
    generator = sagan.Generator(z_dim=8, spectral=spectral, batch_norm_eps=1e-4, **options)
    discriminator = sagan.Discriminator(rectified_shortcut=True, **options)
    fill(generator, renamed(case.params, "G.", STUDIOGAN))
    fill(discriminator, renamed(case.params, "D.", STUDIOGAN))
    z, y_fake, real, y_real = (case.inputs[name] for name in ("z", "y_fake", "real", "y_real"))

    images = turn(generator, z, y_fake)
    case.agrees(images[:2], case.outputs["img_train"], tolerance=TOLERANCE)
    fake_logits = turn(discriminator, images.detach(), y_fake)
    real_logits = turn(discriminator, real, y_real)
    case.agrees(fake_logits, case.outputs["D_fake"], tolerance=TOLERANCE)
    case.agrees(real_logits, case.outputs["D_real"], tolerance=TOLERANCE)
    loss = Hinge().discriminator(real_logits, fake_logits)
    case.agrees(loss, case.outputs["lossD"], tolerance=TOLERANCE)
    loss.backward()
    compare_gradients(case, discriminator, "Dstep.D.", STUDIOGAN)

    loss = Hinge().generator(turn(discriminator, turn(generator, z, y_fake), y_fake))
    case.agrees(loss, case.outputs["lossG"], tolerance=TOLERANCE)
    loss.backward()
    compare_gradients(case, generator, "Gstep.G.", STUDIOGAN)

    generator.eval(), discriminator.eval()
    case.agrees(generator(z, y_fake)[:2], case.outputs["img_eval"], tolerance=TOLERANCE)
    case.agrees(discriminator(real, y_real), case.outputs["D_real_eval"], tolerance=TOLERANCE)
    for block in discriminator.blocks:
        block.rectified_shortcut = False
    case.agrees(discriminator(real, y_real), case.outputs["D_real_eval_outofplace"], tolerance=TOLERANCE)


def test_biggan_unshared() -> None:
    case = load("biggan_tiny_unshared", "net")
    generator = sagan.Generator(resolution=32, classes=5, z_dim=8, width=3, conditional_spectral=False)
    discriminator = sagan.Discriminator(resolution=32, classes=5, width=6)
    fill(generator, renamed(case.params, "G.", BIGGAN))
    fill(discriminator, renamed(case.params, "D.", BIGGAN))
    z, y_fake, real, y_real = (case.inputs[name] for name in ("z", "y_fake", "real", "y_real"))

    images = turn(generator, z, y_fake)
    case.agrees(images[:2], case.outputs["img_train"], tolerance=TOLERANCE)
    logits = turn(discriminator, torch.cat([images.detach(), real]), torch.cat([y_fake, y_real]))
    fake_logits, real_logits = logits.chunk(2)
    case.agrees(fake_logits[:, None], case.outputs["D_fake"], tolerance=TOLERANCE)
    case.agrees(real_logits[:, None], case.outputs["D_real"], tolerance=TOLERANCE)
    loss = Hinge().discriminator(real_logits, fake_logits)
    case.agrees(loss, case.outputs["lossD_real"] + case.outputs["lossD_fake"], tolerance=TOLERANCE)
    loss.backward()
    compare_gradients(case, discriminator, "Dstep.D.", BIGGAN)

    loss = Hinge().generator(turn(discriminator, turn(generator, z, y_fake), y_fake))
    case.agrees(loss, case.outputs["lossG"], tolerance=TOLERANCE)
    loss.backward()
    compare_gradients(case, generator, "Gstep.G.", BIGGAN)

    state = generator.state_dict()
    for name, recorded in renamed(case.outputs, "after.G.", BIGGAN).items():
        case.agrees(state[name], recorded, tolerance=TOLERANCE)
    generator.eval(), discriminator.eval()
    case.agrees(iterated(generator)(z, y_fake)[:2], case.outputs["img_eval"], tolerance=TOLERANCE)
    case.agrees(iterated(discriminator)(real, y_real)[:, None], case.outputs["D_real_eval"], tolerance=TOLERANCE)


def test_mimicry_unconditional() -> None:
    case = load("mimicry_tiny_sngan32", "net")
    generator = sagan.Generator(resolution=32, z_dim=8, width=3, spectral=False, upsampling="bilinear")
    discriminator = sagan.Discriminator(resolution=32, width=4, rectified_shortcut=True)
    fill(generator, renamed(case.params, "G.", MIMICRY_GENERATOR))
    fill(discriminator, renamed(case.params, "D.", MIMICRY_DISCRIMINATOR))
    z, real = case.inputs["z"], case.inputs["real"]

    images = turn(generator, z)
    case.agrees(images[:2], case.outputs["img_train"], tolerance=TOLERANCE)
    real_logits = turn(discriminator, real)
    fake_logits = turn(discriminator, images.detach())
    case.agrees(real_logits[:, None], case.outputs["D_real"], tolerance=TOLERANCE)
    case.agrees(fake_logits[:, None], case.outputs["D_fake"], tolerance=TOLERANCE)
    loss = Hinge().discriminator(real_logits, fake_logits)
    case.agrees(loss, case.outputs["lossD"], tolerance=TOLERANCE)
    loss.backward()
    compare_gradients(case, discriminator, "Dstep.D.", MIMICRY_DISCRIMINATOR)

    generator.eval(), discriminator.eval()
    case.agrees(generator(z)[:2], case.outputs["img_eval"], tolerance=TOLERANCE)
    case.agrees(discriminator(real)[:, None], case.outputs["D_real_eval"], tolerance=TOLERANCE)
    for block in discriminator.blocks:
        block.rectified_shortcut = False
    case.agrees(discriminator(real)[:, None], case.outputs["D_real_eval_outofplace"], tolerance=TOLERANCE)
