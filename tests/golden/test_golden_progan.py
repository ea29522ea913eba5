"""ProGAN's and DCGAN's operators and tiny networks against pytorch_GAN_zoo."""

import math

import pytest
import torch
from torch import Tensor, nn

from framework.networks import dcgan, progan
from framework.networks.blocks.adain import AdaIN
from framework.networks.blocks.equalized import EqualizedConv2d, EqualizedLinear, pixel_norm
from framework.networks.blocks.growing import doubled
from framework.networks.blocks.minibatch import MinibatchStddev
from framework.objectives.adversarial import Wasserstein
from framework.objectives.penalties import drift, gradient_penalty

from . import Case, load
from .ganzoo import (
    DCGAN_DISCRIMINATOR,
    DCGAN_GENERATOR,
    PROGAN_DISCRIMINATOR,
    PROGAN_GENERATOR,
    bias_scale,
    load_progan,
    progan_scales,
    translated,
)

FP32, FP64 = 1e-5, 1e-12
"""Of the largest value of each tensor. Of fp32 recordings gradients are allowed ten times as much."""


@pytest.mark.parametrize(("name", "function"), [("pixelnorm", pixel_norm), ("upscale2d", doubled)])
def test_functions(name: str, function) -> None:
    case = load("ganzoo_ops", name)
    case.agrees(function(case.inputs["x"]), case.outputs["y"], tolerance=FP64)


@pytest.mark.parametrize("kind", ["conv", "linear", "linear_lrmul"])
def test_equalized_layers(kind: str) -> None:
    case = load("ganzoo_ops", f"equalized/{kind}")
    options = {"gain": math.sqrt(2)}
    if kind == "conv":
        layer, multiplier = EqualizedConv2d(5, 4, 3, **options), 1.0
    else:
        multiplier = 0.01 if kind == "linear_lrmul" else 1.0
        layer = EqualizedLinear(6, 4, lr_multiplier=multiplier, **options)
    layer.double()
    weight, bias = case.params["module.weight"], case.params["module.bias"]
    # Ours multiplies the bias by the learning rate's factor, theirs by the whole constant, which contains it.
    layer.load_state_dict({"weight": weight, "bias": bias * bias_scale(case.params, "module.bias")})
    case.agrees(layer(case.inputs["x"]), case.outputs["y"], tolerance=FP64)


@pytest.mark.parametrize("batch", [8, 4, 6, 2])
def test_minibatch_stddev(batch: int) -> None:
    case = load("ganzoo_ops", f"minibatch_std/g4_n{batch}")
    layer = MinibatchStddev(group_size=4, grouping="contiguous", unbiased=True)
    case.agrees(layer(case.inputs["x"]), case.outputs["y"], tolerance=FP64)


def test_adain() -> None:
    # Theirs multiplies by y_s as the affine map gives it, ours by 1 + y_s: a bias less by one.
    case = load("ganzoo_ops", "adain")
    theirs = {name.removeprefix("styleModulator.module."): t for name, t in case.params.items()}
    scale, ones = math.sqrt(2 / 5), torch.cat([torch.ones(4), torch.zeros(4)]).double()
    layer = AdaIN(4, w_dim=5).double()
    # Theirs has He's gain.
    layer.style.load_state_dict({"weight": theirs["weight"] * math.sqrt(2), "bias": theirs["bias"] * scale - ones})
    x = case.inputs["x"].requires_grad_(True)
    y = layer(x, case.inputs["w"])
    case.agrees(y, case.outputs["y"], tolerance=FP64)
    (y * case.inputs["dy"]).sum().backward()
    case.agrees(x.grad, case.gradients["x"], tolerance=FP64)
    case.agrees(layer.style.weight.grad * math.sqrt(2), case.gradients["styleModulator.module.weight"], tolerance=FP64)
    case.agrees(layer.style.bias.grad * scale, case.gradients["styleModulator.module.bias"], tolerance=FP64)


def compare_gradients(case: Case, network: nn.Module, step: str, rules) -> None:
    """Every recorded gradient, and none where the peer has none: layers off the path."""
    side = step.removeprefix("Gstep.").removeprefix("Dstep.")
    scales = progan_scales(case.params, side, rules)
    recorded = translated(case.gradients, step, rules)
    for name, parameter in network.named_parameters():
        if name not in recorded:
            assert parameter.grad is None, f"{name} has a gradient, the peer's has none"
            continue
        # d/d theirs = d/d ours * d ours / d theirs
        case.agrees(parameter.grad * scales[name], recorded[name], tolerance=10 * FP32)
    assert recorded.keys() <= scales.keys()


def progan_networks(case: Case) -> tuple[progan.Generator, progan.Discriminator]:
    widths, he = (8, 8, 6), math.sqrt(2)
    generator = progan.Generator(
        resolution=16, z_dim=8, widths=widths, to_rgb_gain=he, input_gain=he, bias_per_pixel=True
    )
    discriminator = progan.Discriminator(
        resolution=16, widths=widths, output_gain=he, grouping="contiguous", unbiased_stddev=True
    )
    load_progan(generator, case.params, "G.", PROGAN_GENERATOR)
    load_progan(discriminator, case.params, "D.", PROGAN_DISCRIMINATOR)
    return generator, discriminator


def test_progan() -> None:
    case = load("progan_tiny_stable", "net")
    generator, discriminator = progan_networks(case)
    z, real, loss, batch = case.inputs["z"], case.inputs["real"], Wasserstein(), 4

    images = generator(z)
    case.agrees(images, case.outputs["img"], tolerance=FP32)
    fake = images.detach()
    real_logits, fake_logits = discriminator(real), discriminator(fake)
    case.agrees(real_logits[:, None], case.outputs["D_real"], tolerance=FP32)
    case.agrees(fake_logits[:, None], case.outputs["D_fake"], tolerance=FP32)

    # The peer sums over the batch where ours is a mean.
    value = batch * (loss.discriminator(real_logits, fake_logits) + 1e-3 * drift(real_logits))
    # The loss is a difference of the logits' sums, whose rounding is relative to them.
    case.agrees(value, case.outputs["lossD_no_gp"], tolerance=FP32, scale=case.outputs["D_fake"].abs().sum().item())
    penalty = batch * 10 * gradient_penalty(discriminator, real, fake, alpha=case.draws["00_rand"].squeeze(1))
    case.agrees(penalty, case.outputs["gp"], tolerance=FP32)
    (value + penalty).backward()
    compare_gradients(case, discriminator, "Dstep.D.", PROGAN_DISCRIMINATOR)

    value = batch * loss.generator(discriminator(images))
    case.agrees(value, case.outputs["lossG"], tolerance=FP32)
    value.backward()
    compare_gradients(case, generator, "Gstep.G.", PROGAN_GENERATOR)


def test_dcgan() -> None:
    case = load("dcgan64_tiny", "net")
    generator = dcgan.Generator(z_dim=6, width=2)
    discriminator = dcgan.Discriminator(width=2)
    generator.load_state_dict(translated(case.params, "G.", DCGAN_GENERATOR))
    discriminator.load_state_dict(translated(case.params, "D.", DCGAN_DISCRIMINATOR))
    z, real = case.inputs["z"], case.inputs["real"]

    def agrees(ours: Tensor, name: str) -> None:
        case.agrees(ours, case.outputs[name], tolerance=FP32)

    images = generator(z)
    agrees(images[:1], "img_train")
    agrees(discriminator(real)[:, None], "D_real_train")
    agrees(discriminator(images)[:, None], "D_fake_train")
    generator.eval(), discriminator.eval()
    agrees(generator(z)[:1], "img_eval")
    agrees(discriminator(real)[:, None], "D_real_eval")
