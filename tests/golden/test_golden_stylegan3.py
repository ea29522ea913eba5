"""StyleGAN3 against recorded results: filters, filtered nonlinearity, modulated convolution, a whole tiny generator."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import Tensor, nn

from framework.networks import stylegan3
from framework.networks.blocks.alias_free import filtered_leaky_relu, lowpass_filter
from framework.networks.blocks.alias_free_layer import Layer, ModulatedConvolution

from . import FOLDER, _read, deviations, load, names
from .weights import Rules

OPERATORS, TINY = "nvidia_ops", "stylegan3_tiny_t"
FP64, FP32 = 1e-12, 1e-6
"""Of the largest recorded value, for recordings in either precision: a few units in the last place."""
NETWORK = 1e-5
"""The same after the whole network in fp32."""

KNOWN = json.loads((FOLDER / "known_stylegan3.json").read_text())

GENERATOR: Rules = {
    r"^synthesis\.L(\d+)_\d+_\d+\.": r"synthesis.layers.\1.",
    r"^synthesis\.input\.freqs$": "synthesis.input.frequencies",
    r"\.magnitude_ema$": ".magnitude.value",
    r"^mapping\.fc(\d+)\.": r"mapping.layers.\1.",
    r"^mapping\.embed\.": "mapping.embedding.",
    r"^mapping\.w_avg$": "mapping.w_avg.value",
}
"""NVlabs' names to ours; every tensor has the same shape and scale."""


def ours(name: str) -> str:
    for pattern, replacement in GENERATOR.items():
        name = re.sub(pattern, replacement, name)
    return name


LOWPASS = [
    {"num_taps": 12, "cutoff": 2.0, "half_width": 0.4, "sampling_rate": 16.0},
    {"num_taps": 24, "cutoff": 5.3, "half_width": 1.05, "sampling_rate": 32.0},
    {"num_taps": 12, "cutoff": 2.0, "half_width": 0.4, "sampling_rate": 16.0, "radial": True},
    {"num_taps": 6, "cutoff": 3.9, "half_width": 1.0, "sampling_rate": 16.0},
]


def test_lowpass_filters() -> None:
    cases = [name for name in names(OPERATORS) if name.startswith("design_lowpass_filter/")]
    assert len(cases) == len(LOWPASS)
    for name in cases:
        case = load(OPERATORS, name)
        taps = lowpass_filter(**LOWPASS[int(name.split("/")[1])])
        assert taps.dtype == torch.float32
        case.agrees(taps, case.outputs["f"], tolerance=FP32)


FILTERED = {
    "up2down2": {"up": 2, "down": 2, "padding": (8, 8, 8, 8)},
    "up4down2_clamp": {"up": 4, "down": 2, "padding": (9, 8, 7, 6), "gain": 1.3, "slope": 0.1, "clamp": 0.8},
    "flip": {"up": 2, "down": 1, "padding": (9, 8, 7, 6), "flip_filter": True},
}


def test_filtered_leaky_relu() -> None:
    cases = [name for name in names(OPERATORS) if name.startswith("filtered_lrelu/")]
    assert {name.split("/")[1] for name in cases} == FILTERED.keys()
    for name in cases:
        case = load(OPERATORS, name)
        y = filtered_leaky_relu(
            case.inputs["x"],
            case.inputs["b"],
            up_filter=case.inputs["fu"],
            down_filter=case.inputs["fd"],
            **FILTERED[name.split("/")[1]],
        )
        case.agrees(y, case.outputs["y"], tolerance=FP64)


def test_modulated_convolution() -> None:
    """Theirs normalises weights and styles first, which demodulation undoes up to its epsilon."""
    case = load(OPERATORS, "sg3_modulated_conv2d")
    x, weight, styles = (case.inputs[name] for name in ("x", "w", "s"))
    out_channels, in_channels, kernel, _ = weight.shape
    layer = ModulatedConvolution(
        in_channels,
        out_channels,
        kernel=kernel,
        demodulate=True,
        w_dim=in_channels,
        conv_clamp=None,
        magnitude_keep=0.5,
    )
    layer = layer.double().eval()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.affine.weight.copy_(torch.eye(in_channels) / layer.affine.scale)  # w is the style
        layer.affine.bias.zero_()
        layer.magnitude.value.fill_(0.7**-2)  # their input_gain is 0.7
        y = layer.convolve(x, styles)
    epsilon = 1e-8 / (styles.square() @ weight.square().sum((2, 3)).mT).min().item()
    case.agrees(y[:, :, 1:-1, 1:-1], case.outputs["y"], tolerance=epsilon)  # their padding is 1, ours 2


def test_tiny_generator() -> None:
    case = load(TINY, "net")
    generator = stylegan3.Generator(
        resolution=32, z_dim=8, w_dim=8, num_layers=6, channel_base=256, channel_max=8, conv_clamp=None
    ).eval()
    built = generator.state_dict()
    recorded = {ours(name): tensor for name, tensor in case.params.items()}
    assert len(recorded) == len(case.params)
    for name, taps in recorded.items():
        if name.endswith("_filter"):
            case.agrees(built[name], taps, tolerance=FP32)
    generator.load_state_dict(recorded)
    with torch.no_grad():
        ws = generator.mapping(case.inputs["z"])
        case.agrees(ws, case.outputs["ws"], tolerance=FP32)
        case.agrees(generator.synthesis(ws), case.outputs["img"], tolerance=NETWORK)


def test_tiny_generator_has_the_recorded_layers() -> None:
    lines = json.loads(str(_read(TINY)["meta"]))["layers"]
    generator = stylegan3.Generator(
        resolution=32, z_dim=8, w_dim=8, num_layers=6, channel_base=256, channel_max=8, conv_clamp=None
    )
    assert len(lines) == len(generator.synthesis.layers) == 7
    sizes = shapes(generator, torch.zeros(1, 8))
    for index, (line, layer) in enumerate(zip(lines, generator.synthesis.layers, strict=True)):
        pattern = (
            r"in (\d+)@\[(\d+), \d+\] sr\d+ out (\d+)@\[(\d+), \d+\] sr\d+ up(\d+) down(\d+) pad\[(-?\d+), (-?\d+),"
        )
        found = re.search(pattern, line)
        assert found is not None
        in_channels, in_size, out_channels, out_size, up, down, before, after = map(int, found.groups())
        assert layer.weight.shape[:2] == (out_channels, in_channels)
        previous = f"synthesis.layers.{index - 1}" if index else "synthesis.input"
        assert sizes[previous] == [1, in_channels, in_size, in_size]
        assert sizes[f"synthesis.layers.{index}"] == [1, out_channels, out_size, out_size]
        if isinstance(layer, Layer):
            assert (layer.up, layer.down, *layer.padding) == (up, down, before, after)
        else:
            assert (up, down, before, after) == (1, 1, 0, 0)
    deviations[TINY]["layers"] = 0.0  # whole numbers, equal


def shapes(network: nn.Module, z: Tensor) -> dict[str, list[int]]:
    """The output shape of every module by its name."""
    seen: dict[str, list[int]] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _, __, y, name=name: seen.update({name: list(y.shape)}))
    network(z)
    return seen


@pytest.mark.parametrize("name", KNOWN["networks"])
def test_counts_of_the_canonical_generators(name: str) -> None:
    config, resolution = name.removeprefix("stylegan3-").split("_")
    options = {"t": stylegan3.TRANSLATION, "r": stylegan3.ROTATION}[config]
    with torch.device("meta"):
        generator = stylegan3.Generator(resolution=int(resolution), **options)
    known = KNOWN["networks"][name]
    assert sum(parameter.numel() for parameter in generator.parameters()) == known["generator_parameters"]
    assert sum(buffer.numel() for buffer in generator.buffers()) == known["generator_buffers"]


def test_shapes_of_every_module() -> None:
    known = {ours(f"{name}.").removesuffix("."): shape for name, shape in KNOWN["shapes"]["stylegan3-t_256"].items()}
    with torch.device("meta"):
        seen = shapes(stylegan3.Generator(resolution=256), torch.zeros(4, 512))
    assert len(known) == len(KNOWN["shapes"]["stylegan3-t_256"]) == 36
    assert {name: seen[name] for name in known} == known
