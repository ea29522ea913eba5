"""StyleGAN's operators against recorded results: resampling, bias and activation, convolutions, normalisations."""

from __future__ import annotations

import pytest
import torch

from framework.networks.blocks.activation import activation_gain, bias_act
from framework.networks.blocks.equalized import EqualizedLinear, pixel_norm
from framework.networks.blocks.minibatch import MinibatchStddev
from framework.networks.blocks.modulated import conv2d_resample, modulated_conv2d
from framework.networks.blocks.resample import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d
from framework.networks.blocks.resampled import ResampledConv2d
from framework.recipe import Averaging

from . import load, names

FILE = "nvidia_ops"
FP64, FP32 = 1e-12, 1e-6
"""Of the largest recorded value, for recordings in either precision: a few units in the last place."""


def cases(prefix: str) -> list[str]:
    return [name for name in names(FILE) if name.startswith(f"{prefix}/")]


def test_setup_filter() -> None:
    case, binomial = load(FILE, "setup_filter"), [1, 3, 3, 1]
    ours = {
        "f1331": setup_filter(binomial),
        "f1331_separable": setup_filter(binomial, separable=True),
        "f1331_gain4": setup_filter(binomial, gain=4),
        "f1331_flip": setup_filter([1, 2, 3, 4], flip_filter=True),
        "default_none": setup_filter(None),
        "taps12_default": setup_filter(list(range(1, 13))),
    }
    assert ours.keys() == case.outputs.keys()
    for name, recorded in case.outputs.items():
        case.agrees(ours[name], recorded, tolerance=FP32)


UPFIRDN = {
    "f1331": {},
    "up2": {"up": 2, "padding": (2, 1, 2, 1), "gain": 4},
    "down2": {"down": 2, "padding": 1},
    "up2down3_xy": {"up": (2, 3), "down": (3, 2), "padding": (3, 2, -1, 4), "gain": 1.7},
    "flip_nonsep": {"up": 2, "padding": (1, 2, 3, 4), "flip_filter": True},
    "noflip_nonsep": {"up": 2, "padding": (1, 2, 3, 4)},
    "negpad": {"padding": (-1, 2, 1, -2)},
    "sep_up2": {"up": 2, "padding": (2, 1, 2, 1), "gain": 4},
    "none_filter": {"up": 2, "down": 2, "padding": 1},
}


@pytest.mark.parametrize("name", cases("upfirdn2d"))
def test_upfirdn2d(name: str) -> None:
    case = load(FILE, name)
    x = case.inputs["x"].requires_grad_(True)
    y = upfirdn2d(x, case.inputs.get("f"), **UPFIRDN[name.split("/")[1]])
    case.agrees(y, case.outputs["y"], tolerance=FP64)
    (y * case.inputs["dy"]).sum().backward()
    case.agrees(x.grad, case.gradients["x"], tolerance=FP64)


@pytest.mark.parametrize("function", [filter2d, upsample2d, downsample2d])
@pytest.mark.parametrize("kind", ["f1331", "asym", "nonsep"])
def test_resampling(function: object, kind: str) -> None:
    case = load(FILE, f"{function.__name__}/{kind}")
    y = function(case.inputs["x"], case.inputs["f"])
    case.agrees(y, case.outputs["y"], tolerance=FP64)


@pytest.mark.parametrize("name", cases("bias_act"))
def test_bias_act(name: str) -> None:
    case = load(FILE, name)
    x, bias = case.inputs["x"].requires_grad_(True), case.inputs["b"].requires_grad_(True)
    activation = name.split("/")[1]
    if activation == "lrelu_opts":
        y = bias_act(x, bias, activation="lrelu", alpha=0.3, gain=1.5, clamp=1.2)
        case.agrees(y, case.outputs["y"], tolerance=FP64)
        return
    y = bias_act(x, bias, activation=activation)
    case.agrees(y, case.outputs["y"], tolerance=FP64)
    gx, gb = torch.autograd.grad((y * case.inputs["dy"]).sum(), (x, bias), create_graph=True)
    case.agrees(gx, case.gradients["x"], tolerance=FP64)
    case.agrees(gb, case.gradients["b"], tolerance=FP64)
    if "x_of_gx2" in case.gradients:
        (second,) = torch.autograd.grad(gx.square().sum(), x, allow_unused=True)
        case.agrees(torch.zeros_like(x) if second is None else second, case.gradients["x_of_gx2"], tolerance=FP64)


def test_gains_are_the_recorded_ones() -> None:
    gains = {"linear": 1, "relu": 2**0.5, "lrelu": 2**0.5, "tanh": 1, "sigmoid": 1, "elu": 1, "selu": 1}
    for activation, gain in {**gains, "softplus": 1, "swish": 2**0.5}.items():
        assert activation_gain(activation) == pytest.approx(gain)


CONV_RESAMPLE = {
    "k3": {"padding": 1},
    "k3_up2": {"up": 2, "padding": 1},
    "k3_down2": {"down": 2, "padding": 1},
    "k1_up2": {"up": 2},
    "k1_down2": {"down": 2},
    "k3_up2_noflip": {"up": 2, "padding": 1, "mirrored": True},
    "k3_down2_noflip": {"down": 2, "padding": 1, "mirrored": True},
}


@pytest.mark.parametrize("name", cases("conv2d_resample"))
def test_conv2d_resample(name: str) -> None:
    case = load(FILE, name)
    y = conv2d_resample(
        case.inputs["x"], case.inputs["w"], filter=case.inputs["f"], **CONV_RESAMPLE[name.split("/")[1]]
    )
    case.agrees(y, case.outputs["y"], tolerance=FP64)


MODULATED = {
    "k3_demod": {"padding": 1},
    "k3_nodemod": {"padding": 1, "demodulate": False},
    "k1_torgb": {"demodulate": False},
    "k3_up2": {"up": 2, "padding": 1, "mirrored": True},
    "k3_down2": {"down": 2, "padding": 1},
}


@pytest.mark.parametrize("name", cases("modulated_conv2d"))
@pytest.mark.parametrize("fused", [False, True])
def test_modulated_conv2d(name: str, fused: bool) -> None:
    case = load(FILE, name)
    x, w, s = (case.inputs[key].requires_grad_(True) for key in ("x", "w", "s"))
    options = {"filter": case.inputs["f"], "fused": fused, **MODULATED[name.split("/")[1]]}
    y = modulated_conv2d(x, w, s, noise=case.inputs["noise"], **options)
    case.agrees(y, case.outputs["y"], tolerance=FP64)
    case.agrees(y, case.outputs["y_unfused"], tolerance=FP64)
    case.agrees(modulated_conv2d(x, w, s, **options), case.outputs["y_nonoise"], tolerance=FP64)
    (y * case.inputs["dy"]).sum().backward()
    for tensor, key in ((x, "x"), (w, "w"), (s, "s")):
        case.agrees(tensor.grad, case.gradients[key], tolerance=FP64)


MINIBATCH = {
    "group4_ch1": {"group_size": 4},
    "groupNone_ch1": {"group_size": 8},  # the whole batch
    "group4_ch2": {"group_size": 4, "num_features": 2},
    "group3_ch1": {"group_size": 3},
}


@pytest.mark.parametrize("name", cases("minibatch_std"))
def test_minibatch_stddev(name: str) -> None:
    case = load(FILE, name)
    x = case.inputs["x"].requires_grad_(True)
    y = MinibatchStddev(**MINIBATCH[name.split("/")[1]])(x)
    case.agrees(y, case.outputs["y"], tolerance=FP64)
    (y * case.inputs["dy"]).sum().backward()
    case.agrees(x.grad, case.gradients["x"], tolerance=FP64)


@pytest.mark.parametrize("name", cases("pixelnorm"))
def test_pixel_norm(name: str) -> None:
    case = load(FILE, name)
    case.agrees(pixel_norm(case.inputs["x"]), case.outputs["y"], tolerance=FP64)


FULLY_CONNECTED = {
    "linear": {},
    "lrelu_lr0.01": {"lr_multiplier": 0.01},
    "bias_init1": {"bias_init": 1},
    "lrelu_lr0.01_biasinit0.5": {"lr_multiplier": 0.01, "bias_init": 0.5},
}


@pytest.mark.parametrize("name", cases("fully_connected"))
def test_fully_connected(name: str) -> None:
    case, kind = load(FILE, name), name.split("/")[1]
    layer = EqualizedLinear(6, 5, **FULLY_CONNECTED[kind])
    layer.load_state_dict(case.params)
    y = bias_act(layer(case.inputs["x"]), activation="lrelu" if "lrelu" in kind else "linear")
    case.agrees(y, case.outputs["y"], tolerance=FP32)


CONVOLUTIONS = {
    "k3_lrelu": {"activation": "lrelu"},
    "k3_down2": {"activation": "lrelu", "down": 2},
    "k3_up2": {"up": 2},
    "k1_skip_down2": {"bias": False, "down": 2},
    "k3_clamp": {"activation": "lrelu", "conv_clamp": 0.5},
}


@pytest.mark.parametrize("name", cases("conv2d_layer"))
def test_convolution(name: str) -> None:
    case, kind = load(FILE, name), name.split("/")[1]
    kernel, filter = case.params["weight"].shape[2], case.params.pop("resample_filter")
    layer = ResampledConv2d(4, 5, kernel, filter=filter, **CONVOLUTIONS[kind])
    layer.load_state_dict(case.params)
    gain = 0.5**0.5 if kind == "k1_skip_down2" else 1.0  # our residual blocks scale the sum instead of its summands
    case.agrees(layer(case.inputs["x"]) * gain, case.outputs["y"], tolerance=FP32)


def test_average_of_weights() -> None:
    case = load(FILE, "ema_beta")
    ramp, constant = Averaging(half_life_images=10_000), Averaging(half_life_images=10_000, ramp_up=None)
    ours = [ramp.kept_share(images_seen=int(n), step_images=32) for n in case.inputs["cur_nimg"].tolist()]
    case.agrees(torch.tensor(ours, dtype=torch.float64), case.outputs["beta"], tolerance=FP64)
    share = constant.kept_share(images_seen=1, step_images=32)
    case.agrees(torch.tensor(share, dtype=torch.float64), case.outputs["beta_norampup"], tolerance=FP64)
