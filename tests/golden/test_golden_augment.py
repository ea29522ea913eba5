"""ADA's transforms and DiffAugment against recorded results, with the peers' own draws handed to ours by name."""

import math

import pytest
import torch
from torch import Tensor

from framework.augment.ada import Ada
from framework.augment.diffaugment import DiffAugment
from framework.augment.wavelets import SYM6, octave_bank
from tests.helpers.draws import Given

from . import Case, load, names

FP32 = 1e-5
"""Of the largest value; images, draws and the peer's filters are fp32."""

TRANSFORMS = {
    "xflip": "x_flip",
    "rotate90": "rotate90",
    "xint": "integer_translation",
    "scale": "isotropic_scale",
    "rotate": "rotation",
    "aniso": "anisotropic_scale",
    "xfrac": "fractional_translation",
    "brightness": "brightness",
    "contrast": "contrast",
    "lumaflip": "luma_flip",
    "hue": "hue",
    "saturation": "saturation",
    "imgfilter": "image_filter",
    "noise": "noise",
    "cutout": "cutout",
}
"""The peer's name and ours."""

USES = [
    "x_flip",
    "rotate90",
    "integer_translation",
    "isotropic_scale",
    "rotation/before",
    "anisotropic_scale",
    "rotation/after",
    "fractional_translation",
    "brightness",
    "contrast",
    "luma_flip",
    "hue",
    "saturation",
    *(f"image_filter/{band}" for band in range(4)),
    "noise",
]
"""The order in which the peer draws: for each of these the value, then which images are picked."""

INTEGERS = {"x_flip": 2, "rotate90": 4, "luma_flip": 2}

DIFFAUGMENT = {
    "color": ["brightness", "saturation", "contrast"],
    "translation": ["translation/y", "translation/x"],
    "cutout": ["cutout/y", "cutout/x"],
}
"""The same for DiffAugment; the peer's "x" moves rows."""


class Percentile:
    """A `Draw` of one image: every value at the same percentile of its distribution, every transform picked.

    As the peer's debug mode has it, which takes erfinv(2q - 1) for the percentile q of a normal distribution, without
    the factor sqrt(2), and does not rotate a second time.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    def uniform(self, what: str, *shape: int) -> Tensor:
        share = 0.0 if what.endswith("/picked") else 0.5 if what == "rotation/after" else self.share
        return torch.full((1, *shape), share)

    def normal(self, what: str, *shape: int) -> Tensor:
        return torch.full((1, *shape), torch.erfinv(torch.tensor(2 * self.share - 1)).item())

    def integers(self, what: str, high: int, *shape: int) -> Tensor:
        return torch.full((1, *shape), math.floor(self.share * high))


def ada_draws(case: Case) -> Given:
    """The draws of one of the peer's random runs, under our names."""
    order = [name for use in USES for name in (use, f"{use}/picked")]
    order += ["noise/pixels", "cutout/picked", "cutout/centre"]
    if len(case.draws) < len(order):
        order = order[: order.index("image_filter/0")]
    values = dict(zip(order, in_order(case), strict=True))
    for name, high in INTEGERS.items():
        values[name] = (values[name] * high).long()  # the peer draws these as floats
    return Given(values)


def in_order(case: Case) -> list[Tensor]:
    """The peer's draws, without its dimensions of length 1."""
    return [v.reshape([len(v), *(s for s in v.shape[1:] if s > 1)]) for _, v in sorted(case.draws.items())]


def test_filters_of_ada() -> None:
    case = load("ada_augment", "buffers")
    case.agrees(torch.tensor(SYM6) / math.sqrt(2), case.outputs["Hz_geom"], tolerance=1e-7)
    case.agrees(torch.from_numpy(octave_bank()), case.outputs["Hz_fbank"], tolerance=1e-7)


@pytest.mark.parametrize("name", [name for name in names("ada_augment") if name.startswith("debug_percentile/")])
def test_transforms_of_ada(name: str) -> None:
    case, images = load("ada_augment", name), load("ada_augment", "input").inputs["x"]
    _, which, share = name.split("/")
    ada = Ada() if which == "bgc" else Ada(**dict.fromkeys(TRANSFORMS.values(), 0.0) | {TRANSFORMS[which]: 1.0})
    ours = ada(images[:1], strength=1.0, draw=Percentile(float(share)))
    case.agrees(ours, case.outputs["y"], tolerance=FP32)


@pytest.mark.parametrize("name", [name for name in names("ada_augment") if name.startswith("random/")])
def test_ada(name: str) -> None:
    case = load("ada_augment", name)
    images = load("ada_augment", "input").inputs["x"].requires_grad_()
    preset, p = name.removeprefix("random/").split("_p")
    ours = Ada(preset=preset)(images, strength=float(p), draw=ada_draws(case))
    case.agrees(ours, case.outputs["y"], tolerance=FP32)
    ours.square().sum().backward()
    case.agrees(images.grad, case.gradients["x"], tolerance=FP32)


@pytest.mark.parametrize("policies", ["color", "translation", "cutout", "color+translation+cutout"])
def test_diffaugment(policies: str) -> None:
    case, chosen = load("studiogan_ops", f"diffaug/{policies}"), policies.split("+")
    images = case.inputs["x"].requires_grad_()
    order = [name for policy in chosen for name in DIFFAUGMENT[policy]]
    values = dict(zip(order, in_order(case), strict=True))
    for name in values:
        if name.startswith("translation"):  # the peer draws from -1 to 1 at 8 pixels, we from 0 to 2
            values[name] = values[name] + 1
    ours = DiffAugment(policies=tuple(chosen))(images, strength=1.0, draw=Given(values))
    case.agrees(ours, case.outputs["y"], tolerance=1e-6)
    ours.square().sum().backward()
    case.agrees(images.grad, case.gradients["x"], tolerance=1e-6)


def test_every_case_of_ada_is_compared() -> None:
    kinds = ("buffers", "input", "debug_percentile/", "random/")
    assert all(name.startswith(kinds) for name in names("ada_augment"))
