"""DiffAugment: ranges of its draws, second derivatives, independence of the split, and what it refuses."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from framework.augment.diffaugment import DiffAugment
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Given, Seeded


@pytest.fixture
def images() -> Tensor:
    return 2 * Seeded(batch_size=4).uniform("images", 3, 10, 8).double() - 1


def test_strength_zero_is_the_identity_and_any_other_is_full(images: Tensor) -> None:
    augment = DiffAugment()
    assert torch.equal(augment(images, strength=0.0, draw=Given()), images)
    weak, strong = (augment(images, strength=s, draw=Seeded(batch_size=4)) for s in (0.1, 1.0))
    assert torch.equal(weak, strong)
    assert augment.start == augment.adjusted(1.0, sign=0.9, images=64) == 1.0
    assert augment.every is None


def test_extremes_of_colour(images: Tensor) -> None:
    def recolour(*, brightness: float, saturation: float, contrast: float) -> Tensor:
        draws = {"brightness": brightness, "saturation": saturation, "contrast": contrast}
        given = Given({name: torch.full((4,), value) for name, value in draws.items()})
        return DiffAugment(policies=("color",))(images, strength=1.0, draw=given)

    level, grey = images.mean((1, 2, 3), keepdim=True), images.mean(1, keepdim=True)
    torch.testing.assert_close(recolour(brightness=0.5, saturation=0.5, contrast=0.5), images)
    torch.testing.assert_close(recolour(brightness=0.0, saturation=0.5, contrast=0.5), images - 0.5)
    torch.testing.assert_close(recolour(brightness=0.5, saturation=0.0, contrast=0.5), grey.expand_as(images))
    torch.testing.assert_close(recolour(brightness=0.5, saturation=0.5, contrast=0.0), (images + level) / 2)


def test_translation_is_uniform_over_an_eighth_of_the_side_and_brings_in_zeros() -> None:
    n = 4_000
    images = torch.arange(1.0, 1 + 16 * 16).view(1, 1, 16, 16).expand(n, 1, 16, 16)
    moved = DiffAugment(policies=("translation",))(images, strength=1.0, draw=Seeded(batch_size=n))
    assert moved.count_nonzero((1, 2, 3)).min() == 14 * 14
    at_centre = moved[:, 0, 8, 8].long() - 1
    counts = torch.bincount((at_centre // 16 - 6) * 5 + at_centre % 16 - 6, minlength=25)
    assert len(counts) == 25
    # 25 shifts, equally probable: chi-squared with 24 degrees of freedom is below 60 but once in 10^4 seeds.
    assert ((counts - n / 25).square() / (n / 25)).sum() < 60


@pytest.mark.parametrize("size", [8, 9, 10])
def test_cutout_is_half_of_each_side(size: int) -> None:
    n, side = 500, int(size / 2 + 0.5)
    ones = torch.ones(n, 1, size, size)
    cut = DiffAugment(policies=("cutout",))(ones, strength=1.0, draw=Seeded(batch_size=n)) == 0
    height, width = (cut.any(dim).sum((1, 2)) for dim in (3, 2))
    assert cut.sum((1, 2, 3)).equal(height * width), "a rectangle"
    assert height.max() == width.max() == side
    assert height.min() == width.min() == side - side // 2  # centred on the image's edge


@pytest.mark.parametrize("channels", [1, 3])
def test_first_and_second_derivatives(channels: int) -> None:
    images = Seeded(batch_size=2).normal("images", channels, 6, 6).double().requires_grad_()

    def augment(images: Tensor) -> Tensor:
        return DiffAugment()(images, strength=1.0, draw=Seeded(batch_size=2)).square()

    assert gradcheck(augment, images)
    assert gradgradcheck(augment, images, fast_mode=True)


def test_an_image_does_not_depend_on_how_the_batch_is_split(images: Tensor) -> None:
    whole = DiffAugment()(images, strength=1.0, draw=Seeded(batch_size=4))
    for rows in (slice(0, 1), slice(1, 4)):
        part = DiffAugment()(images[rows], strength=1.0, draw=Seeded(batch_size=4, rows=rows))
        torch.testing.assert_close(part, whole[rows], rtol=0, atol=1e-14)


@pytest.mark.parametrize("policies", [(), ("colour",), ("color", "color"), "color"])
def test_refused_policies(policies: tuple[str, ...]) -> None:
    with pytest.raises(FrameworkError, match="color, translation, cutout"):
        DiffAugment(policies=policies)
