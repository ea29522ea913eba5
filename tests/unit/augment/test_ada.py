"""ADA: which images it changes, its second derivatives, its independence of the split, and what it refuses."""

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from framework.augment.ada import Ada, Preset
from framework.objectives.penalties import r1
from framework.recipe.schedules import Ramp
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Given, Seeded

PRESETS = Preset.__args__
OFF = dict.fromkeys(Ada().multipliers, 0.0)
SHARES = {
    "x_flip": 0.5,
    "rotate90": 0.75,
    "integer_translation": 0.75,  # at 8 pixels each of two shifts is uniform in [-1, 1] and rounds to 0 half the time
    "luma_flip": 0.5,
}
"""Share of images that a transform which is picked changes, where it is not all."""


def only(**multipliers: float) -> Ada:
    return Ada(**{**OFF, **multipliers})


def pictures(n: int, *, channels: int = 3, size: int = 24, dtype: torch.dtype = torch.float32) -> Tensor:
    return 2 * Seeded(batch_size=n, seed=7).uniform("pictures", channels, size, size).to(dtype) - 1


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_strength_zero_is_the_identity_to_the_bit(preset: str, channels: int) -> None:
    images = pictures(2, channels=channels)
    nothing_to_draw = Given()
    assert torch.equal(Ada(preset=preset)(images, strength=0.0, draw=nothing_to_draw), images)
    assert not torch.equal(Ada(preset=preset)(images, strength=1.0, draw=Seeded(batch_size=2)), images)


@pytest.mark.parametrize("transform", OFF)
def test_p_is_the_share_of_images_a_transform_is_applied_to(transform: str) -> None:
    """The others come back to the bit. The multiplier multiplies p."""
    n, size, p = 3_000, 24 if transform == "image_filter" else 8, 0.3
    images = pictures(n, channels=3 if transform in ("hue", "saturation") else 1, size=size)
    augmented = only(**{transform: 0.5})(images, strength=2 * p, draw=Seeded(batch_size=n))
    changed = (augmented != images).flatten(1).any(1).double().mean().item()
    expected = 1 - (1 - p) ** 4 if transform == "image_filter" else p * SHARES.get(transform, 1.0)
    assert abs(changed - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_strength_may_pass_one() -> None:
    n, images = 20, pictures(20)
    changed = only(brightness=1, noise=1)(images, strength=3.0, draw=Seeded(batch_size=n))
    assert (changed != images).flatten(1).any(1).all()
    assert torch.isfinite(Ada(preset="bgcfnc")(images, strength=3.0, draw=Seeded(batch_size=n))).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_first_and_second_derivatives(channels: int) -> None:
    images = pictures(3, channels=channels, size=22, dtype=torch.float64).requires_grad_()

    def augment(images: Tensor) -> Tensor:
        # Squared, so that the second derivative is not zero: ADA itself is linear in the image.
        return Ada(preset="bgcfnc")(images, strength=0.8, draw=Seeded(batch_size=3)).square()

    assert gradcheck(augment, images, fast_mode=True)
    assert gradgradcheck(augment, images, fast_mode=True)


def test_r1_through_ada_has_the_right_gradient() -> None:
    """In the discriminator's weights, against a difference quotient."""
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Softplus(), nn.Flatten(), nn.LazyLinear(1)).double()
    images = pictures(4, size=16, dtype=torch.float64)

    def penalty() -> Tensor:
        def discriminate(x: Tensor, y: Tensor | None) -> Tensor:
            return discriminator(Ada()(x, strength=0.8, draw=Seeded(batch_size=4)))[:, 0]

        return r1(discriminate, images)

    penalty().backward()
    weight = discriminator[0].weight
    direction = torch.randn_like(weight)
    expected, values = (weight.grad * direction).sum().item(), []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight.add_(direction, alpha=step)
        values.append(penalty().item())
        with torch.no_grad():
            weight.sub_(direction, alpha=step)
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(expected, rel=1e-7)


def test_an_image_does_not_depend_on_how_the_batch_is_split() -> None:
    """Up to rounding: how far images are continued is decided for the micro-batch."""
    ada, images = Ada(preset="bgcfnc"), pictures(8, dtype=torch.float64)
    whole = ada(images, strength=0.7, draw=Seeded(batch_size=8))
    rows = [slice(0, 1), slice(1, 4), slice(4, 8)]
    parts = [ada(images[r], strength=0.7, draw=Seeded(batch_size=8, rows=r)) for r in rows]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)


def test_autocast_does_not_reach_the_augmentation() -> None:
    images, ada = pictures(4), Ada(preset="bgcf")
    with torch.autocast("cpu", torch.bfloat16):
        inside = ada(images, strength=0.8, draw=Seeded(batch_size=4))
    assert torch.equal(inside, ada(images, strength=0.8, draw=Seeded(batch_size=4)))
    half = ada(images.bfloat16(), strength=0.8, draw=Seeded(batch_size=4))
    assert half.dtype == torch.bfloat16


def test_presets_and_multipliers() -> None:
    assert sum(Ada().multipliers.values()) == 12
    assert all(Ada(preset="bgcfnc").multipliers.values())
    assert Ada(preset="blit", x_flip=0.5, hue=2.0).multipliers == OFF | {
        "x_flip": 0.5,
        "rotate90": 1.0,
        "integer_translation": 1.0,
        "hue": 2.0,
    }
    assert json.loads(json.dumps(dataclasses.asdict(Ada())))["preset"] == "bgc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "all"}, "blit, geom, color"),
        ({"start": -0.1}, "start=-0.1"),
        ({"start": Ramp(start=0.0, end=0.3, images=10)}, "every=None"),
        ({"start": Ramp(start=0.0, end=-1.0, images=10), "every": None}, "start=-1.0"),
        ({"target": 1.5}, "target=1.5"),
        ({"images": 0}, "images=0"),
        ({"every": 0}, "every=0"),
        ({"hue": -1.0}, "hue=-1.0"),
        ({"noise": math.inf}, "noise=inf"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        Ada(**options)


@pytest.mark.parametrize(
    ("ada", "size", "message"),
    [
        (only(x_flip=1), (3, 8, 16), "x_flip: images must be square, not 8 x 16"),
        (only(rotation=1, rotate90=1), (3, 8, 16), "rotate90, rotation: images must be square"),
        (only(image_filter=1), (3, 21, 21), "image_filter: .*at least 22 x 22 pixels.* not 21 x 21"),
        (only(hue=1), (2, 8, 8), "hue: images must have 1 or 3 channels, not 2"),
    ],
)
def test_refused_images(ada: Ada, size: tuple[int, int, int], message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        ada.check(channels=size[0], height=size[1], width=size[2])
    with pytest.raises(FrameworkError, match=message):
        ada(torch.zeros(1, *size), strength=0.0, draw=Seeded(batch_size=1))


def test_images_that_are_not_square_can_be_moved_and_recoloured() -> None:
    ada = Ada(preset="bgcfnc", x_flip=0.0, rotate90=0.0, rotation=0.0)
    images = pictures(2, size=30)[:, :, :25]
    assert ada(images, strength=1.0, draw=Seeded(batch_size=2)).shape == images.shape


def test_draws_for_other_images_are_noticed() -> None:
    with pytest.raises(AssertionError, match="3 images"):
        Ada()(pictures(3), strength=0.5, draw=Seeded(batch_size=1))
