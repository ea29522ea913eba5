"""Single transforms of ADA whose result is known in closed form, and the wavelets behind them."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from framework.augment.ada import Ada
from framework.augment.gridsample import grid_sample
from framework.augment.wavelets import SYM2, SYM6, octave_bank
from tests.helpers.draws import Given, Seeded

OFF = dict.fromkeys(Ada().multipliers, 0.0)


def apply(images: Tensor, **values: Tensor) -> Tensor:
    """One transform on every image, with the given draws (`centre` stands for `cutout/centre`)."""
    transform = next(iter(values))
    picked = torch.zeros(len(images))
    draws = {f"{transform}/picked": picked, "cutout/centre": values.pop("centre", picked), **values}
    return Ada(**{**OFF, transform: 1.0})(images, strength=1.0, draw=Given(draws))


@pytest.fixture
def images() -> Tensor:
    return 2 * Seeded(batch_size=3).uniform("images", 3, 16, 16).double() - 1


@pytest.mark.parametrize("taps", [SYM2, SYM6], ids=["sym2", "sym6"])
def test_symlets_satisfy_their_equations(taps: tuple[float, ...]) -> None:
    h, moments = np.array(taps), len(taps) // 2
    k = np.arange(len(h))
    assert h.sum() == pytest.approx(math.sqrt(2), abs=1e-15)
    for shift in range(moments):
        assert h[2 * shift :] @ h[: len(h) - 2 * shift] == pytest.approx(float(shift == 0), abs=1e-15)
        assert ((-1.0) ** k * (k / len(h)) ** shift) @ h == pytest.approx(0.0, abs=1e-15)


def test_octave_bank_sums_to_the_identity_and_passes_its_octaves() -> None:
    bank = octave_bank()
    identity = np.eye(1, 43, 21)[0]
    np.testing.assert_allclose(bank.sum(0), identity, atol=1e-15)
    np.testing.assert_allclose(bank, bank[:, ::-1], atol=1e-15)
    power = np.abs(np.fft.rfft(bank, 4096)) ** 2
    edges = [0, 1, 2, 4, 8]  # in eighths of pi
    for band in range(4):
        octaves = [power[band, 256 * a : 256 * b].mean() for a, b in pairwise(edges)]
        assert max(range(4), key=octaves.__getitem__) == band


def test_whole_pixels_do_not_blur(images: Tensor) -> None:
    """Enlarging and shrinking by the orthogonal wavelet is the identity; what comes in is the reflection."""
    shift = torch.tensor([[2.0, 0.0], [0.0, -1.0], [-2.0, 1.0]])  # right, up, left and down
    moved = apply(images, integer_translation=(shift / (0.125 * 16) + 1) / 2)
    grown = functional.pad(images, [2] * 4, mode="reflect")
    for image, whole, (x, y) in zip(moved, grown, shift.int().tolist(), strict=True):
        torch.testing.assert_close(image, whole[:, 2 - y : 18 - y, 2 - x : 18 - x], rtol=0, atol=1e-13)


def smooth(n: int, size: int) -> Tensor:
    """A blob off the centre, so smooth that resampling it is exact to 1e-3."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size, dtype=torch.float64)] * 2, indexing="ij")
    blob = torch.exp(-((x - 0.3).square() + 2 * (y + 0.2).square()) * 6)
    return blob.expand(n, 1, size, size).clone()


@pytest.mark.parametrize(
    ("transform", "draws", "expected"),
    [
        ("x_flip", [0, 1], [lambda x: x, lambda x: x.flip(2)]),
        # i quarter turns take G = ROTATE(-i pi / 2), which is anticlockwise with y downwards.
        ("rotate90", [0, 1, 2, 3], [lambda x, i=i: x.rot90(i, (1, 2)) for i in range(4)]),
    ],
)
def test_flips_and_quarter_turns(transform: str, draws: list[int], expected: list[Callable]) -> None:
    """Nearly: the wavelet's centre of gravity lies 0.05 pixels off, so a mirrored side moves by 0.1."""
    picture = smooth(len(draws), 32)
    turned = apply(picture, **{transform: torch.tensor(draws)})
    steepest = torch.stack(torch.gradient(picture[0, 0])).norm(dim=0).max().item()
    for result, image, change in zip(turned, picture, expected, strict=True):
        torch.testing.assert_close(result, change(image), rtol=0, atol=0.1 * math.sqrt(2) * steepest)


def test_a_third_of_the_hue_circle_permutes_the_channels(images: Tensor) -> None:
    angle = torch.tensor([2 / 3, -2 / 3, 0], dtype=torch.float64)  # of pi
    turned = apply(images, hue=(angle + 1) / 2)
    torch.testing.assert_close(turned[0], images[0].roll(1, 0))
    torch.testing.assert_close(turned[1], images[1].roll(-1, 0))
    assert torch.equal(turned[2], images[2])


def test_brightness_contrast_luma_flip_and_saturation(images: Tensor) -> None:
    n = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    per_image = n[:, None, None, None]
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(apply(images, brightness=n), images + 0.2 * per_image)
    torch.testing.assert_close(apply(images, contrast=n), images * 2 ** (0.5 * per_image))
    torch.testing.assert_close(apply(images, saturation=n), grey + (images - grey) * 2**per_image)
    torch.testing.assert_close(apply(images, luma_flip=torch.ones(3)), images - 2 * grey)


def test_grey_images_are_recoloured_as_their_colour_copies() -> None:
    images = 2 * Seeded(batch_size=8).uniform("images", 1, 6, 6).double() - 1
    ada = Ada(preset="color")
    grey = ada(images, strength=0.7, draw=Seeded(batch_size=8))
    colour = ada(images.expand(8, 3, 6, 6), strength=0.7, draw=Seeded(batch_size=8))
    torch.testing.assert_close(grey.expand_as(colour), colour)


def test_amplifying_one_octave_keeps_the_power_of_a_natural_image() -> None:
    exponents = [-1.0, 1.0, 2.0, 0.5]
    power = np.array([10, 1, 1, 1]) / 13
    impulse = torch.zeros(4, 1, 65, 65, dtype=torch.float64)
    impulse[:, :, 32, 32] = 1
    draws = {f"image_filter/{band}": torch.full((4,), exponents[band]) for band in range(4)}
    # Image i is picked by octave i only.
    draws |= {f"image_filter/{band}/picked": 1 - torch.eye(4)[band] for band in range(4)}
    response = Ada(preset="filter")(impulse, strength=1.0, draw=Given(draws))
    for image in range(4):
        gains = np.ones(4)
        gains[image] = 2 ** exponents[image]
        gains /= math.sqrt(power @ gains**2)
        taps = torch.from_numpy(gains @ octave_bank())
        torch.testing.assert_close(response[image, 0, 11:54, 11:54], torch.outer(taps, taps))


def test_cutout_is_a_quarter_of_the_image(images: Tensor) -> None:
    centre = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.0, 0.0]])
    cut = apply(images, cutout=torch.zeros(3), centre=centre) == 0
    assert cut.all(1).sum((1, 2)).tolist() == [64, 64, 16]
    assert cut[1, 0, 8:, :8].all()  # (x, y): the lower left quarter


def test_grid_sample_equals_torch_and_has_second_derivatives() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    grid = 2.4 * torch.rand(2, 3, 4, 2, dtype=torch.float64, generator=generator) - 1.2  # some of it outside
    ours, torchs = grid_sample(images, grid), functional.grid_sample(images, grid, align_corners=False)
    assert torch.equal(ours, torchs)
    weights = torch.randn(ours.shape, dtype=torch.float64, generator=generator)
    gradients = [torch.autograd.grad((y * weights).sum(), images)[0] for y in (ours, torchs)]
    assert torch.equal(*gradients)
    assert gradcheck(lambda x: grid_sample(x, grid), images)
    assert gradgradcheck(lambda x: grid_sample(x, grid).square(), images)
