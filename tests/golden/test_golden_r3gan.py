"""R3GAN's tiny networks against recorded results: images, logits, both steps' losses, penalties and gradients."""

import re

import torch
from torch import Tensor, nn

from framework.networks import r3gan
from framework.objectives.penalties import R1, R2, r1, r2
from framework.objectives.relativistic import RelativisticPairing
from framework.objectives.terms import TermInputs
from tests.helpers.draws import Given

from . import Case, load

FP32 = 1e-5
"""Of the largest value of each tensor; the recordings are fp32."""

GAMMA = 0.8

COMMON = {
    r"\.Layer\.weight$": ".weight",
    r"^AggregationLayer\.": "to_image.",
    r"^ExtractionLayer\.": "from_image.",
    r"^EmbeddingLayer\.": "embedding.",
    r"\.NonLinearity([12])\.Bias$": r".bias\1",
    r"\.LinearLayer1\.": ".expand.",
    r"\.LinearLayer2\.": ".grouped.",
    r"\.LinearLayer3\.": ".project.",
}
GENERATOR = COMMON | {
    r"^MainLayers\.0\.Layers\.0\.Basis$": "basis",
    r"^MainLayers\.0\.Layers\.0\.LinearLayer\.": "linear.",
    r"^MainLayers\.0\.Layers\.(\d+)\.": lambda match: f"stages.0.{int(match[1]) - 1}.",
    r"^MainLayers\.(\d+)\.Layers\.0\.LinearLayer\.": r"stages.\1.0.conv.",
    r"^MainLayers\.(\d+)\.Layers\.": r"stages.\1.",
}
DISCRIMINATOR = COMMON | {
    r"^MainLayers\.\d+\.Layers\.\d+\.Basis\.": "basis.",
    r"^MainLayers\.2\.Layers\.2\.LinearLayer\.": "linear.",
    r"^MainLayers\.(\d+)\.Layers\.(\d+)\.LinearLayer\.": r"stages.\1.\2.conv.",
    r"^MainLayers\.(\d+)\.Layers\.": r"stages.\1.",
}


def renamed(recorded: dict[str, Tensor], prefix: str, rules: dict) -> dict[str, Tensor]:
    ours = {}
    for key, tensor in recorded.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or name.endswith(".Kernel"):
            continue
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        assert name not in ours
        ours[name] = tensor
    return ours


def players(case: Case) -> tuple[nn.Module, nn.Module]:
    options = {"resolution": 16, "widths": (12, 12, 6), "groups": 3, "num_blocks": (2, 1, 1)}
    generator, discriminator = r3gan.Generator(z_dim=8, **options), r3gan.Discriminator(**options)
    generator.load_state_dict(renamed(case.params, "G.", GENERATOR))
    discriminator.load_state_dict(renamed(case.params, "D.", DISCRIMINATOR))
    return generator, discriminator


def compare_gradients(case: Case, network: nn.Module, prefix: str, rules: dict) -> None:
    recorded = renamed(case.gradients, prefix, rules)
    parameters = dict(network.named_parameters())
    assert recorded.keys() == parameters.keys()
    for name, gradient in recorded.items():
        case.agrees(parameters[name].grad, gradient, tolerance=FP32)


def test_steps_of_r3gan() -> None:
    case = load("r3gan_tiny_uncond", "net")
    generator, discriminator = players(case)
    real = case.inputs["real"]
    fake = generator(case.inputs["z"])
    case.agrees(fake, case.outputs["img"], tolerance=FP32)

    on_real, on_fake = discriminator(real), discriminator(fake.detach())
    case.agrees(on_real, case.outputs["D_real"], tolerance=FP32)
    case.agrees(on_real - on_fake, case.outputs["D_rel_logits"], tolerance=FP32)
    loss = RelativisticPairing().discriminator(on_real, on_fake)
    case.agrees(loss, case.outputs["D_adv"].mean(), tolerance=FP32)
    case.agrees(r1(discriminator, real), case.outputs["R1"].mean(), tolerance=FP32)
    case.agrees(r2(discriminator, fake), case.outputs["R2"].mean(), tolerance=FP32)
    inputs = TermInputs(network=discriminator, discriminate=discriminator, draw=Given(), real=real, fake=fake.detach())
    (loss + R1(weight=GAMMA)(inputs) + R2(weight=GAMMA)(inputs)).backward()
    compare_gradients(case, discriminator, "Dstep.D.", DISCRIMINATOR)

    with torch.no_grad():
        on_real = discriminator(real)
    on_fake = discriminator(generator(case.inputs["z"]))
    case.agrees(on_fake - on_real, case.outputs["G_rel_logits"], tolerance=FP32)
    loss = RelativisticPairing().generator(on_fake, on_real)
    case.agrees(loss, case.outputs["G_adv"].mean(), tolerance=FP32)
    loss.backward()
    compare_gradients(case, generator, "Gstep.G.", GENERATOR)
