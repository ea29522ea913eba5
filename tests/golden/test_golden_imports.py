"""Public weights through `framework.interop.load`: outputs as recorded, every published configuration understood."""

import gzip
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from framework import interop
from framework.networks import r3gan
from framework.networks.blocks.spectral import power_iteration
from framework.utils.errors import FrameworkError

from . import FOLDER, Case, load
from .imports import table

TOLERANCE = 1e-4
"""Of the largest output; the recordings are fp32."""

KNOWN: dict[str, Any] = json.loads(gzip.decompress((FOLDER / "known_states.json.gz").read_bytes()))
"""Names and shapes of every tensor of networks built by the projects themselves."""

UNSUPPORTED = {
    "dcgan_32_studiogan": {"generator", "discriminator"},
    "lsgan_32_studiogan": {"generator", "discriminator"},
    "wgan-gp_32_studiogan": {"discriminator"},
}
"""StudioGAN's backbone deep_conv, and its discriminators with batch norm."""


def pair(kind: str, case: Case, **overrides: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Generator and discriminator of a recording; the discriminator gets the overrides."""
    parts = {
        side: {name.removeprefix(prefix): t for name, t in case.params.items() if name.startswith(prefix)}
        for side, prefix in (("generator", "G."), ("discriminator", "D."))
    }
    generator = interop.load(kind, "generator", parts["generator"])
    discriminator = interop.load(kind, "discriminator", parts["discriminator"], **overrides)
    assert not generator.training
    assert not discriminator.training
    return generator, discriminator


@torch.no_grad()
def test_stylegan2() -> None:
    case, kind = load("stylegan2_tiny_uncond_resnet", "net"), "nvlabs-stylegan2"
    generator, discriminator = pair(kind, case, mbstd_group_size=2)
    z, found = case.inputs["z"], table[kind]
    options: dict[str, dict[str, Any]] = {
        "img_noise_const": {"noise": "const"},
        "img_noise_none": {"noise": "none"},
        "img_trunc0p7_const": {"psi": 0.7},
        "img_trunc0p5_cut4_const": {"psi": 0.5, "cutoff": 4},
    }
    for name, given in options.items():
        found.agrees(f"{case.file} {name}", generator(z, **given), case.outputs[name], tolerance=TOLERANCE)
    found.agrees(f"{case.file} ws", generator.mapping(z), case.outputs["ws"], tolerance=TOLERANCE)
    logits = discriminator(case.inputs["real"], case.inputs["c"])
    found.agrees(f"{case.file} D_real", logits, case.outputs["D_real"], tolerance=TOLERANCE)
    assert not torch.equal(generator(z, noise="random"), generator(z, noise="random"))


@torch.no_grad()
def test_stylegan2_in_the_layout_of_rosinality() -> None:
    """The recorded network, rewritten: its layers have other names there, and more dimensions."""
    case, kind = load("stylegan2_tiny_uncond_resnet", "net"), "rosinality-stylegan2"
    g, d = ({name[2:]: t for name, t in case.params.items() if name.startswith(side)} for side in ("G.", "D."))
    state = {"input.input": g["synthesis.b4.const"][None]}
    for index in range(3):
        state |= {f"style.{index + 1}.{end}": g[f"mapping.fc{index}.{end}"] for end in ("weight", "bias")}
    layers = {"conv1": "b4.conv1", "convs.0": "b8.conv0", "convs.1": "b8.conv1", "convs.2": "b16.conv0"}
    for number, (theirs, layer) in enumerate((layers | {"convs.3": "b16.conv1"}).items()):
        nv = {name.removeprefix(f"synthesis.{layer}."): t for name, t in g.items()}
        state |= {f"{theirs}.conv.weight": nv["weight"][None], f"{theirs}.activate.bias": nv["bias"]}
        state |= {f"{theirs}.conv.modulation.{end}": nv[f"affine.{end}"] for end in ("weight", "bias")}
        state |= {f"{theirs}.noise.weight": nv["noise_strength"][None]}
        state |= {f"noises.noise_{number}": nv["noise_const"][None, None]}
        if layer.endswith("conv0"):
            state[f"{theirs}.conv.blur.kernel"] = 4 * nv["resample_filter"]
    for theirs, side in {"to_rgb1": 4, "to_rgbs.0": 8, "to_rgbs.1": 16}.items():
        nv = {name.removeprefix(f"synthesis.b{side}.torgb."): t for name, t in g.items()}
        state |= {f"{theirs}.conv.weight": nv["weight"][None], f"{theirs}.bias": nv["bias"].view(1, 3, 1, 1)}
        state |= {f"{theirs}.conv.modulation.{end}": nv[f"affine.{end}"] for end in ("weight", "bias")}
    generator = interop.load(kind, "generator", state)
    for noise in ("const", "none"):
        expected = case.outputs[f"img_noise_{noise}"]
        table[kind].agrees(
            f"rewritten {noise}", generator(case.inputs["z"], noise=noise), expected, tolerance=TOLERANCE
        )
    # It keeps no mean style: one is estimated.
    styles = generator.mapping.styles(torch.randn(20_000, 16, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(generator.mapping.w_avg.value, styles.mean(0), atol=0.05, rtol=0.0)

    state = {"convs.0.0.weight": d["b16.fromrgb.weight"], "convs.0.1.bias": d["b16.fromrgb.bias"]}
    for number, side in ((1, 16), (2, 8)):
        nv = {name.removeprefix(f"b{side}."): t for name, t in d.items()}
        renamed = {"conv1.0.weight": "conv0.weight", "conv1.1.bias": "conv0.bias", "conv2.1.weight": "conv1.weight"}
        renamed |= {"conv2.2.bias": "conv1.bias", "skip.1.weight": "skip.weight", "skip.0.kernel": "resample_filter"}
        state |= {f"convs.{number}.{theirs}": nv[name] for theirs, name in renamed.items()}
    renamed = {"final_conv.0.weight": "b4.conv.weight", "final_conv.1.bias": "b4.conv.bias"}
    renamed |= {f"final_linear.0.{end}": f"b4.fc.{end}" for end in ("weight", "bias")}
    renamed |= {f"final_linear.1.{end}": f"b4.out.{end}" for end in ("weight", "bias")}
    state |= {theirs: d[name] for theirs, name in renamed.items()}
    discriminator = interop.load(kind, "discriminator", state, stddev_group=2)
    logits = discriminator(case.inputs["real"])
    table[kind].agrees("rewritten D_real", logits, case.outputs["D_real"], tolerance=TOLERANCE)


@torch.no_grad()
def test_stylegan3() -> None:
    case, kind = load("stylegan3_tiny_t", "net"), "nvlabs-stylegan3"
    loaded = interop.understand(kind, "generator", case.params)
    assert loaded.description.options["num_critical"] == 2
    images = loaded.network(case.inputs["z"], noise="none")
    table[kind].agrees(f"{case.file} img", images, case.outputs["img"], tolerance=TOLERANCE)


@torch.no_grad()
def test_r3gan() -> None:
    case, kind = load("r3gan_tiny_uncond", "net"), "r3gan"
    generator, discriminator = pair(kind, case)
    assert isinstance(generator, r3gan.Generator)
    z, real = case.inputs["z"], case.inputs["real"]
    table[kind].agrees(f"{case.file} img", generator(z), case.outputs["img"], tolerance=TOLERANCE)
    table[kind].agrees(f"{case.file} D_real", discriminator(real), case.outputs["D_real"], tolerance=TOLERANCE)


@torch.no_grad()
def test_progan() -> None:
    case, kind = load("progan_tiny_stable", "net"), "gan-zoo-progan"
    generator, discriminator = pair(kind, case)
    images = generator(case.inputs["z"], alpha=1.0)
    table[kind].agrees(f"{case.file} img", images, case.outputs["img"], tolerance=TOLERANCE)
    for name, given in (("D_real", case.inputs["real"]), ("D_fake", case.outputs["img"])):
        table[kind].agrees(f"{case.file} {name}", discriminator(given), case.outputs[name], tolerance=TOLERANCE)
    # Fading mixes in what the network of half the resolution makes.
    coarse = functional.interpolate(generator(case.inputs["z"], resolution=8), scale_factor=2.0)
    faded = generator(case.inputs["z"], alpha=0.25)
    torch.testing.assert_close(faded, 0.75 * coarse + 0.25 * images)


@torch.no_grad()
def test_dcgan() -> None:
    case, kind = load("dcgan64_tiny", "net"), "dcgan-pytorch-examples"
    generator, discriminator = pair(kind, case)
    z, real, found = case.inputs["z"], case.inputs["real"], table[kind]
    # The recorded evaluation follows a training forward of each, which moved the statistics.
    generator.train(), discriminator.train()
    images = generator(z)
    found.agrees(f"{case.file} img_train", images[:1], case.outputs["img_train"], tolerance=TOLERANCE)
    for name, given in (("D_real_train", real), ("D_fake_train", images)):
        found.agrees(f"{case.file} {name}", discriminator(given), case.outputs[name], tolerance=TOLERANCE)
    generator.eval(), discriminator.eval()
    found.agrees(f"{case.file} img_eval", generator(z)[:1], case.outputs["img_eval"], tolerance=TOLERANCE)
    found.agrees(f"{case.file} D_real_eval", discriminator(real), case.outputs["D_real_eval"], tolerance=TOLERANCE)


def turn(network: torch.nn.Module, *inputs: Tensor) -> Tensor:
    """A training forward of StudioGAN or mimicry: spectral norm iterates first."""
    power_iteration(network)
    result: Tensor = network.train()(*inputs)
    network.eval()
    return result


@pytest.mark.parametrize("file", ["studiogan_tiny_sagan32", "studiogan_tiny_sngan32"])
@torch.no_grad()
def test_studiogan(file: str) -> None:
    case, kind = load(file, "net"), "studiogan"
    generator, discriminator = pair(kind, case, rectified_shortcut=True)
    z, y_fake, real, y_real = (case.inputs[name] for name in ("z", "y_fake", "real", "y_real"))
    found = table[kind]
    images = turn(generator, z, y_fake)
    found.agrees(f"{file} img_train", images[:2], case.outputs["img_train"], tolerance=TOLERANCE)
    found.agrees(f"{file} D_fake", turn(discriminator, images, y_fake), case.outputs["D_fake"], tolerance=TOLERANCE)
    found.agrees(f"{file} D_real", turn(discriminator, real, y_real), case.outputs["D_real"], tolerance=TOLERANCE)
    turn(discriminator, turn(generator, z, y_fake), y_fake)  # the recorded step of the generator
    one_hot = functional.one_hot(y_fake, 5).float()
    for labels in (y_fake, one_hot):
        images = generator(z, labels)[:2]
        found.agrees(f"{file} img_eval", images, case.outputs["img_eval"], tolerance=TOLERANCE)
    found.agrees(f"{file} D_real_eval", discriminator(real, y_real), case.outputs["D_real_eval"], tolerance=TOLERANCE)
    for block in discriminator.blocks:
        block.rectified_shortcut = False
    expected = case.outputs["D_real_eval_outofplace"]
    found.agrees(f"{file} D_real_eval_outofplace", discriminator(real, y_real), expected, tolerance=TOLERANCE)


@torch.no_grad()
def test_mimicry() -> None:
    case, kind = load("mimicry_tiny_sngan32", "net"), "mimicry"
    generator, discriminator = pair(kind, case, rectified_shortcut=True)
    z, real, found = case.inputs["z"], case.inputs["real"], table[kind]
    images = turn(generator, z)
    found.agrees(f"{case.file} img_train", images[:2], case.outputs["img_train"], tolerance=TOLERANCE)
    found.agrees(f"{case.file} D_real", turn(discriminator, real), case.outputs["D_real"], tolerance=TOLERANCE)
    found.agrees(f"{case.file} D_fake", turn(discriminator, images), case.outputs["D_fake"], tolerance=TOLERANCE)
    found.agrees(f"{case.file} img_eval", generator(z)[:2], case.outputs["img_eval"], tolerance=TOLERANCE)
    found.agrees(f"{case.file} D_real_eval", discriminator(real), case.outputs["D_real_eval"], tolerance=TOLERANCE)


@pytest.mark.parametrize("name", ["cgan_pd_32", "sagan_32", "sngan_48", "sngan_64", "wgan_gp_48"])
@torch.no_grad()
def test_variants_of_mimicry(name: str) -> None:
    case, kind = load("mimicry_variants", name), "mimicry"
    # WGAN-GP averages over pixels, and its discriminators for 48 and 64 px look the same.
    told: dict[str, Any] = {"pooling": "mean", "resolution": 48} if name.startswith("wgan_gp") else {}
    generator, discriminator = pair(kind, case, rectified_shortcut=True, **told)
    labels = case.inputs.get("y")
    images = generator(case.inputs["z"], label=labels)[:1]
    table[kind].agrees(f"{name} img_eval", images, case.outputs["img_eval"], tolerance=TOLERANCE)
    logits = discriminator(case.inputs["real"], labels)
    table[kind].agrees(f"{name} D_real_eval", logits, case.outputs["D_real_eval"], tolerance=TOLERANCE)


@torch.no_grad()
def test_biggan() -> None:
    case, kind = load("biggan_tiny_unshared", "net"), "biggan-pytorch"
    generator, discriminator = pair(kind, case)
    z, y_fake, real, y_real = (case.inputs[name] for name in ("z", "y_fake", "real", "y_real"))
    found = table[kind]
    # Reading a state iterates spectral norm once, as this project does before every use.
    images = generator.train()(z, y_fake)
    found.agrees(f"{case.file} img_train", images[:2], case.outputs["img_train"], tolerance=TOLERANCE)
    fake, true = discriminator(torch.cat([images, real]), torch.cat([y_fake, y_real])).chunk(2)
    found.agrees(f"{case.file} D_fake", fake, case.outputs["D_fake"], tolerance=TOLERANCE)
    found.agrees(f"{case.file} D_real", true, case.outputs["D_real"], tolerance=TOLERANCE)
    weights = {name.removeprefix("G."): tensor for name, tensor in case.params.items() if name.startswith("G.")}
    after = {name.removeprefix("after.G."): t for name, t in case.outputs.items() if name.startswith("after.G.")}
    images = interop.load(kind, "generator", weights | after)(z, y_fake)[:2]
    found.agrees(f"{case.file} img_eval", images, case.outputs["img_eval"], tolerance=TOLERANCE)
    power_iteration(discriminator, steps=2)  # for the recorded step of the generator, and for evaluation
    found.agrees(
        f"{case.file} D_real_eval", discriminator(real, y_real), case.outputs["D_real_eval"], tolerance=TOLERANCE
    )


@pytest.mark.parametrize("name", KNOWN)
def test_published_configurations(name: str) -> None:
    """Each name is used once and each of our parameters filled once: `load` refuses anything else."""
    known = KNOWN[name]
    for side in ("generator", "discriminator"):
        shapes = known[side]["shapes"]
        state = {tensor: torch.empty(shape, device="meta") for tensor, shape in shapes.items()}
        if side in UNSUPPORTED.get(name, ()):
            with pytest.raises(FrameworkError, match="not supported"):
                interop.load(known["kind"], side, state)
            continue
        network = interop.load(known["kind"], side, state)
        assert sum(parameter.numel() for parameter in network.parameters()) == known[side]["parameters"]
        table[known["kind"]].configurations.add(f"{name} {side}")


def test_arrays_prefixes_and_counters() -> None:
    case, kind = load("mimicry_tiny_sngan32", "net"), "mimicry"
    state = {name.removeprefix("G."): t for name, t in case.params.items() if name.startswith("G.")}
    expected = interop.load(kind, "generator", state)(case.inputs["z"])
    variants: dict[str, dict[str, Any]] = {
        "arrays": {name: tensor.numpy() for name, tensor in state.items()},
        "DataParallel": {f"module.{name}": tensor for name, tensor in state.items()},
        "no counters": {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")},
        "half precision": {name: t.half().float().half() if t.is_floating_point() else t for name, t in state.items()},
    }
    for name, variant in variants.items():
        images = interop.load(kind, "generator", variant)(case.inputs["z"])
        torch.testing.assert_close(images, expected, atol=0.05 if name == "half precision" else 0.0, rtol=0.0)
        assert images.dtype == torch.float32
    doubled = {name: t.double() if t.is_floating_point() else t for name, t in state.items()}
    assert interop.load(kind, "generator", doubled)(case.inputs["z"].double()).dtype == torch.float64
    del state["c5.bias"]
    with pytest.raises(FrameworkError, match=r"unknown: extra; missing: c5\.bias$"):
        interop.load(kind, "generator", state | {"extra": np.zeros(3)})
