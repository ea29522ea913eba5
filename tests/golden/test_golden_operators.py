"""Spectral norm, batch norm, attention and residual blocks against recorded results of public implementations."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from framework.networks.blocks.attention import SelfAttention2d
from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d, standing_statistics
from framework.networks.blocks.residual import DiscriminatorBlock, GeneratorBlock
from framework.networks.blocks.spectral import SpectralNorm, power_iteration, spectral_norm, spectral_norms

from . import Case, load

FP32, FP64 = 1e-6, 1e-12


def normalised(layer: nn.Module, weight: Tensor, bias: Tensor | None, u: Tensor, v: Tensor | None) -> SpectralNorm:
    spectral_norm(layer)
    chain = layer.parametrizations.weight
    with torch.no_grad():
        chain.original.copy_(weight)
        chain[0].u.copy_(u.flatten())
        if v is not None:
            chain[0].v.copy_(v)
        if bias is not None:
            layer.bias.copy_(bias)
    return chain[0]


def evaluated_after_iterating(layer: nn.Module, x: Tensor) -> Tensor:
    """BigGAN-PyTorch and mimicry iterate once more in evaluation and forget the result."""
    copied = copy.deepcopy(layer)
    power_iteration(copied)
    return copied(x)


@pytest.mark.parametrize("kind", ["conv", "linear", "embedding"])
def test_spectral_norm_of_biggan(kind: str) -> None:
    case = load("biggan_ops", f"spectral_norm/{kind}")
    layer = {"conv": nn.Conv2d(3, 5, 3, padding=1), "linear": nn.Linear(7, 4), "embedding": nn.Embedding(6, 4)}[kind]
    norm = normalised(layer, case.params["weight"], case.params.get("bias"), case.params["u0"], None)
    x = case.inputs["x"]
    for turn in range(3):
        power_iteration(layer)
        case.agrees(layer(x), case.outputs[f"y{turn}"], tolerance=FP32)
    case.agrees(norm.u[None], case.outputs["u_after"], tolerance=FP32)
    case.agrees(spectral_norms(layer)["weight"][None], case.outputs["sv_after"], tolerance=FP32)
    case.agrees(evaluated_after_iterating(layer, x), case.outputs["y_eval"], tolerance=FP32)
    power_iteration(layer)
    y = layer(x)
    case.agrees(y, case.outputs["y4"], tolerance=FP32)
    (y * case.inputs["dy4"]).sum().backward()
    case.agrees(layer.parametrizations.weight.original.grad, case.gradients["weight"], tolerance=FP32)
    if "bias" in case.gradients:
        case.agrees(layer.bias.grad, case.gradients["bias"], tolerance=FP32)


def test_two_power_iterations_of_biggan() -> None:
    # The peer also tracks a second singular value (u1, sv1) for its log; it does not enter the weight.
    case = load("biggan_ops", "spectral_norm/linear_2svs_2itrs")
    layer = nn.Linear(7, 5)
    norm = normalised(layer, case.params["weight"], case.params["bias"], case.params["u0"], None)
    power_iteration(layer, steps=2)
    case.agrees(layer(case.inputs["x"]), case.outputs["y"], tolerance=FP32)
    case.agrees(norm.u[None], case.outputs["u0_after"], tolerance=FP32)
    case.agrees(spectral_norms(layer)["weight"][None], case.outputs["sv0"], tolerance=FP32)


def test_spectral_norm_of_studiogan() -> None:
    case = load("studiogan_ops", "spectral_norm/torch_legacy_conv")
    layer, p = nn.Conv2d(3, 5, 3, padding=1), case.params
    norm = normalised(layer, p["weight_orig"], p["bias"], p["weight_u"], p["weight_v"])
    x = case.inputs["x"]
    for turn in range(2):
        power_iteration(layer)
        case.agrees(layer(x), case.outputs[f"y{turn}"], tolerance=FP32)
    case.agrees(norm.u, case.outputs["u_after"], tolerance=FP32)
    case.agrees(norm.v, case.outputs["v_after"], tolerance=FP32)
    case.agrees(layer(x), case.outputs["y_eval"], tolerance=FP32)


def test_spectral_norm_of_mimicry() -> None:
    case = load("mimicry_ops", "spectral_norm/custom")
    layer = nn.Conv2d(3, 5, 3, padding=1)
    norm = normalised(layer, case.params["weight"], case.params["bias"], case.params["sn_u"], None)
    for turn in range(2):
        power_iteration(layer)
        case.agrees(layer(case.inputs["x"]), case.outputs[f"y{turn}"], tolerance=FP32)
    case.agrees(norm.u[None], case.outputs["u_after"], tolerance=FP32)
    case.agrees(evaluated_after_iterating(layer, case.inputs["x"]), case.outputs["y_eval"], tolerance=FP32)


BIGGAN_ATTENTION = {name: name for name in ("gamma", "theta.weight", "phi.weight", "g.weight", "o.weight")}
STUDIOGAN_ATTENTION = {
    "gamma": "sigma",
    "theta.weight": "conv1x1_theta.weight",
    "phi.weight": "conv1x1_phi.weight",
    "g.weight": "conv1x1_g.weight",
    "o.weight": "conv1x1_attn.weight",
}


@pytest.mark.parametrize(
    ("file", "names"),
    [("biggan_ops", BIGGAN_ATTENTION), ("mimicry_ops", BIGGAN_ATTENTION), ("studiogan_ops", STUDIOGAN_ATTENTION)],
)
def test_attention(file: str, names: dict[str, str]) -> None:
    case = load(file, "attention")
    layer = SelfAttention2d(16, spectral=False).double()
    layer.load_state_dict({ours: torch.atleast_1d(case.params[theirs]) for ours, theirs in names.items()})
    x = case.inputs["x"].requires_grad_(True)
    y = layer(x)
    case.agrees(y, case.outputs["y"], tolerance=FP64)
    if file == "mimicry_ops":  # no gradients recorded
        return
    (y * case.inputs["dy"]).sum().backward()
    case.agrees(x.grad, case.gradients["x"], tolerance=FP64)
    for ours, theirs in names.items():
        recorded = torch.atleast_1d(case.gradients[theirs])
        case.agrees(layer.get_parameter(ours).grad, recorded, tolerance=FP64)


@pytest.mark.parametrize("kind", ["linear_input", "embedding"])
def test_conditional_batch_norm_of_biggan(kind: str) -> None:
    case = load("biggan_ops", f"ccbn/{kind}")
    embedded = kind == "embedding"
    layer = ConditionalBatchNorm2d(6, 5).double()
    with torch.no_grad():
        for part, linear in (("gain", layer.gain), ("bias", layer.bias)):
            weight = case.params[f"{part}.weight"]
            linear.weight.copy_(weight.t() if embedded else weight)
    x = case.inputs["x"].requires_grad_(True)
    y = layer(x, case.inputs["y"])
    case.agrees(y, case.outputs["y_train"], tolerance=FP64)
    case.agrees(layer.norm.running_mean, case.outputs["stored_mean_after"], tolerance=FP64)
    case.agrees(layer.norm.running_var, case.outputs["stored_var_after"], tolerance=FP64)
    (y * case.inputs["dy"]).sum().backward()
    case.agrees(x.grad, case.gradients["x"], tolerance=FP64)
    for part, linear in (("gain", layer.gain), ("bias", layer.bias)):
        gradient = linear.weight.grad
        case.agrees(gradient.t() if embedded else gradient, case.gradients[f"{part}.weight"], tolerance=FP64)
    case.agrees(layer.eval()(x, case.inputs["y"]), case.outputs["y_eval"], tolerance=FP64)


def test_conditional_batch_norm_of_studiogan() -> None:
    case = load("studiogan_ops", "cbn")
    layer = ConditionalBatchNorm2d(6, 5, eps=1e-4).double()
    with torch.no_grad():
        layer.gain.weight.copy_(case.params["gain.weight"])
        layer.bias.weight.copy_(case.params["bias.weight"])
    case.agrees(layer(case.inputs["x"], case.inputs["y"]), case.outputs["y_train"], tolerance=FP64)
    case.agrees(layer.norm.running_mean, case.outputs["running_mean"], tolerance=FP64)
    case.agrees(layer.norm.running_var, case.outputs["running_var"], tolerance=FP64)
    case.agrees(layer.eval()(case.inputs["x"], case.inputs["y"]), case.outputs["y_eval"], tolerance=FP64)


def load_mimicry_norm(layer: nn.Module, params: dict[str, Tensor]) -> None:
    """mimicry multiplies by gamma(label) instead of 1 + gain(label) and keeps [gamma | beta] in one embedding."""
    with torch.no_grad():
        if isinstance(layer, BatchNorm2d):
            layer.weight.copy_(params["weight"])
            layer.bias.copy_(params["bias"])
            return
        gamma, beta = params["embed.weight"].t().chunk(2)
        layer.gain.weight.copy_(gamma - 1)
        layer.bias.weight.copy_(beta)


def test_conditional_batch_norm_of_mimicry() -> None:
    case = load("mimicry_ops", "cbn")
    layer = ConditionalBatchNorm2d(6, 5).double()
    load_mimicry_norm(layer, case.params)
    case.agrees(layer(case.inputs["x"], case.inputs["y"]), case.outputs["y_train"], tolerance=FP64)
    case.agrees(layer.eval()(case.inputs["x"], case.inputs["y"]), case.outputs["y_eval"], tolerance=FP64)


def test_standing_statistics_of_biggan() -> None:
    case = load("biggan_ops", "standing_stats")
    layer = BatchNorm2d(6, affine=False).double()
    with standing_statistics(layer):
        layer(case.inputs["x1"])
        layer(case.inputs["x2"])
    # The peer works in fp32 here, keeps sums and divides by the counter when it evaluates.
    counter = case.outputs["counter"]
    case.agrees(layer.running_mean, case.outputs["stored_mean"] / counter, tolerance=FP32)
    case.agrees(layer.running_var, case.outputs["stored_var"] / counter, tolerance=FP32)
    y = layer.eval()(case.inputs["x1"]) * case.inputs["gain"] + case.inputs["bias"]
    case.agrees(y, case.outputs["y_eval"], tolerance=FP32)


def load_block(block: nn.Module, case: Case) -> None:
    names = {"conv1": "c1", "conv2": "c2", "shortcut": "c_sc", "norm1": "b1", "norm2": "b2"}
    for ours, theirs in names.items():
        part = {k.removeprefix(f"{theirs}."): v for k, v in case.params.items() if k.startswith(f"{theirs}.")}
        if not part:
            continue
        module = getattr(block, ours)
        if isinstance(module, nn.Conv2d):
            module.load_state_dict(part)
        else:
            load_mimicry_norm(module, part)


@pytest.mark.parametrize("conditional", [False, True])
def test_generator_block_of_mimicry(conditional: bool) -> None:
    case = load("mimicry_ops", "block/GBlock_up_cond" if conditional else "block/GBlock_up")
    norm = partial(ConditionalBatchNorm2d, num_classes=5) if conditional else BatchNorm2d
    block = GeneratorBlock(4, 6, norm=norm, spectral=False, upsampling="bilinear").double()
    load_block(block, case)
    case.agrees(block(case.inputs["x"], case.inputs.get("y")), case.outputs["y"], tolerance=FP64)


@pytest.mark.parametrize("rectified", [False, True])
def test_discriminator_block_of_mimicry(rectified: bool) -> None:
    case = load("mimicry_ops", "block/DBlock_down")
    block = DiscriminatorBlock(4, 6, hidden_channels=4, spectral=False, rectified_shortcut=rectified).double()
    load_block(block, case)
    case.agrees(block(case.inputs["x"]), case.outputs["y" if rectified else "y_outofplace"], tolerance=FP64)


def test_first_discriminator_block_of_mimicry() -> None:
    case = load("mimicry_ops", "block/DBlockOptimized")
    block = DiscriminatorBlock(3, 6, first=True, spectral=False).double()
    load_block(block, case)
    case.agrees(block(case.inputs["x"]), case.outputs["y"], tolerance=FP64)
