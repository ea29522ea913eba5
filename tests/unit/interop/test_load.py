"""`interop.load`: what it refuses, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import interop
from framework.interop.blueprint import State
from framework.interop.formats import stylegan3 as table
from framework.interop.load import KINDS, kind_of, translated_options
from framework.interop.names import DROPPED, Pair, dropped, fill, pair, translated
from framework.networks import progan, stylegan3
from framework.utils.errors import FrameworkError
from tests.golden import load as recorded


def state_of(file: str, side: str) -> dict[str, Tensor]:
    return {name[2:]: t for name, t in recorded(file, "net").params.items() if name.startswith(f"{side}.")}


def test_wrong_arguments() -> None:
    state = state_of("mimicry_tiny_sngan32", "G")

    def refused(message: str, *arguments: Any, **overrides: Any) -> None:
        with pytest.raises(FrameworkError, match=message):
            interop.load(*arguments, **overrides)

    refused("nearest: mimicry", "mimikry", "generator", state)
    refused("generator, discriminator", "mimicry", "critic", state)
    refused("no tensors", "mimicry", "generator", {})
    refused("no option 'widht'; nearest: width", "mimicry", "generator", state, widht=3)
    refused("shapes do not fit", "mimicry", "generator", state, width=5)
    refused("also has attention", "mimicry", "generator", state, attention_at=16)
    for kind in KINDS:
        for side in ("generator", "discriminator"):
            refused(f"not the state of a {kind} {side}", kind, side, {"some.weight": torch.zeros(3)})


def test_a_table_uses_every_tensor_once() -> None:
    pairs = [pair("a", "x"), pair("b", "y"), dropped("c"), Pair("d", (), DROPPED)]
    a, b = torch.zeros(1), torch.ones(1)
    assert translated({"a": a, "b": b, "d": a}, pairs, kind="test") == {"x": a, "y": b}
    with pytest.raises(FrameworkError, match=r"unknown: e, f; missing: b, d$"):
        translated({"a": a, "e": a, "f": a}, pairs, kind="test")
    with pytest.raises(AssertionError, match="both become x"):
        translated({"a": a, "b": b}, [pair("a", "x"), pair("b", "x")], kind="test")
    with pytest.raises(FrameworkError, match=r"n7 and 2 more$"):
        translated({f"n{number}": a for number in range(10)}, [], kind="test")


def test_a_network_is_filled_completely() -> None:
    network = nn.Linear(2, 3)
    weight, bias = torch.randn(3, 2), torch.randn(3)
    with pytest.raises(FrameworkError, match="also has bias, and has no gain"):
        fill(network, {"weight": weight, "gain": bias}, kind="test")
    with pytest.raises(FrameworkError, match=r"weight \(2, 3\) instead of \(3, 2\)"):
        fill(network, {"weight": weight.t(), "bias": bias}, kind="test")
    fill(network, {"weight": weight, "bias": bias}, kind="test")
    assert torch.equal(network.weight, weight)


def test_options_of_their_constructors() -> None:
    given = {"img_resolution": 256, "epilogue_kwargs": {"mbstd_group_size": 8}, "block_kwargs": {}, "conv_clamp": 256}
    known = translated_options("nvlabs-stylegan2", "discriminator", given, known_only=True)
    assert known == {"stddev_group_size": 8, "conv_clamp": 256}
    mine = translated_options("nvlabs-stylegan2", "discriminator", {"stddev_group_size": 2, "width": 3})
    assert mine == {"stddev_group_size": 2, "width": 3}


def test_every_kind_tells_where_networks_stand_in_files() -> None:
    for kind in KINDS:
        places = kind_of(kind).PLACES
        assert places.generator
        assert places.discriminator


@pytest.mark.parametrize("num_critical", [1, 2, 3])
@pytest.mark.parametrize("variant", [stylegan3.TRANSLATION, stylegan3.ROTATION], ids=["t", "r"])
@torch.no_grad()
def test_stylegan3_is_told_by_sizes_and_filters(num_critical: int, variant: dict[str, Any]) -> None:
    """Names carry sizes and channels, buffers the filters: nothing needs to be said."""
    torch.manual_seed(0)
    widths = {"channel_base": 512, "channel_max": 12 if variant["radial"] else 8}
    options = dict(variant) | widths | {"num_layers": 7, "num_critical": num_critical, "classes": 3}
    network = stylegan3.Generator(resolution=32, z_dim=6, w_dim=5, **options).eval()
    state = network.state_dict()
    layers, names = list(network.synthesis.layers), {}
    features = torch.zeros(1, len(network.synthesis.input.weight), *[network.synthesis.input.size] * 2)
    for index, layer in enumerate(layers):
        features = layer(features, torch.zeros(1, 5))
        theirs = f"synthesis.L{index}_{features.shape[2]}_{features.shape[1]}"
        for group in (table.LAYER, table.BUFFERS):
            names |= {f"synthesis.layers.{index}.{own}": f"{theirs}.{name}" for name, own in group.items()}
    names |= {f"synthesis.input.{own}": f"synthesis.input.{name}" for name, own in table.INPUT.items()}
    for part in ("weight", "bias"):
        names |= {f"mapping.layers.{index}.{part}": f"mapping.fc{index}.{part}" for index in range(2)}
        names[f"mapping.embedding.{part}"] = f"mapping.embed.{part}"
    names["mapping.w_avg.value"] = "mapping.w_avg"
    loaded = interop.understand("nvlabs-stylegan3", "generator", {names[name]: t for name, t in state.items()})
    told = {"num_critical": num_critical, "radial": variant["radial"], "kernel": variant["kernel"], "classes": 3}
    assert told.items() <= loaded.description.options.items()
    z, labels = torch.randn(2, 6), torch.tensor([0, 2])
    assert torch.equal(loaded.network(z, labels), network(z, labels))


def test_progan_before_it_has_grown() -> None:
    """A file from the first phase has no blocks."""
    generator = {
        "formatLayer.module.weight": torch.randn(8 * 16, 6),
        "formatLayer.module.bias": torch.randn(8 * 16),
        "groupScale0.0.module.weight": torch.randn(8, 8, 3, 3),
        "groupScale0.0.module.bias": torch.randn(8),
        "toRGBLayers.0.module.weight": torch.randn(3, 8, 1, 1),
        "toRGBLayers.0.module.bias": torch.randn(3),
    }
    network = interop.load("gan-zoo-progan", "generator", generator)
    assert isinstance(network, progan.Generator)
    assert network(torch.randn(2, 6)).shape == (2, 3, 4, 4)


def test_states_answer_questions() -> None:
    state = State({"blocks.0.a": torch.zeros(2), "blocks.2.a": torch.zeros(3)}, {"resolution": 48})
    assert state.shape("blocks.2.a") == (3,)
    assert state.numbers(r"blocks\.(\d+)\.") == [0, 2]
    assert state.given["resolution"] == 48
    assert state.get("missing") is None
    with pytest.raises(FrameworkError, match="missing"):
        state["missing"]
    with pytest.raises(FrameworkError, match=r"\[0, 2\]"):
        state.count(r"blocks\.(\d+)\.")
