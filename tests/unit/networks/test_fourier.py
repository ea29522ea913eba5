import math

import pytest
import torch
from torch import Tensor

from framework.networks.blocks.fourier import FourierInput

RATE = 16


def build(**changes: int) -> FourierInput:
    torch.manual_seed(0)
    options = {"w_dim": 4, "channels": 8, "size": RATE + 4, "sampling_rate": RATE, "cutoff": 2.0}
    return FourierInput(**{**options, **changes}).double()


def rotation(degrees: float) -> Tensor:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)


def translation(x: float, y: float) -> Tensor:
    return torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64)


W = torch.zeros(1, 4, dtype=torch.float64)


def test_frequencies_fill_the_disc_evenly() -> None:
    field = build(channels=4096)
    shares = field.frequencies.square().sum(1) / field.cutoff**2  # the area within each radius: uniform in [0, 1]
    assert shares.max() <= 1
    deciles = torch.histc(shares, bins=10, min=0, max=1) / 4096
    assert (deciles - 0.1).abs().max() < 5 * math.sqrt(0.1 * 0.9 / 4096)
    assert field.frequencies.mean(0).abs().max() < 5 * field.cutoff / 2 / math.sqrt(4096)
    assert (field.phases.abs() <= 0.5).all()


def test_value_at_a_pixel() -> None:
    """`sin(2 pi (f . p + phase))`, mixed by the weight over the root of its fan-in."""
    field = build()
    row, column = 3, 11
    p = torch.tensor([column - (RATE + 3) / 2, row - (RATE + 3) / 2], dtype=torch.float64) / RATE
    waves = torch.sin(2 * math.pi * (field.frequencies @ p + field.phases))
    torch.testing.assert_close(field(W)[0, :, row, column], field.weight @ waves / math.sqrt(8))


def test_translation_of_the_image() -> None:
    field = build()
    still = field(W)
    assert still.shape == (1, 8, RATE + 4, RATE + 4)
    field.transform.copy_(translation(-3 / RATE, 2 / RATE))  # the inverse of 3 pixels right, 2 up
    torch.testing.assert_close(field(W)[:, :, :-2, 3:], still[:, :, 2:, :-3], rtol=0, atol=1e-12)


def test_rotation_of_the_image() -> None:
    field = build()
    still = field(W)
    field.transform.copy_(rotation(90))
    torch.testing.assert_close(field(W), torch.rot90(still, 1, (2, 3)), rtol=0, atol=1e-12)


def test_learned_transformation_turns_then_moves() -> None:
    """The affine layer's (r_c, r_s, t_x, t_y) act as a rotation of the image followed by a translation."""
    field, cos, sin = build(), math.cos(math.radians(20)), math.sin(math.radians(20))
    field.transform.copy_(torch.linalg.inv(translation(0.25, -0.1) @ rotation(-20)))
    expected = field(W)
    field.transform.copy_(torch.eye(3))
    for length in (1.0, 2.5):  # a common factor has no effect
        with torch.no_grad():
            field.affine.bias.copy_(length * torch.tensor([cos, sin, 0.25, -0.1], dtype=torch.float64))
        torch.testing.assert_close(field(W), expected, rtol=0, atol=1e-12)


def test_latents_transform_their_own_image() -> None:
    field = build()
    with torch.no_grad():
        field.affine.weight.copy_(torch.randn(4, 4))
    w = torch.randn(3, 4, dtype=torch.float64)
    together = field(w)
    for index in range(3):
        torch.testing.assert_close(together[index : index + 1], field(w[index : index + 1]))
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize(("zoom", "amplitude"), [(1.0, 1.0), (0.5, 1.0), (2.5, 0.5), (4.0, 0.0), (9.0, 0.0)])
def test_frequencies_beyond_the_grid_fade_out(zoom: float, amplitude: float) -> None:
    """Linearly from the cutoff 2 to half the sampling rate 8."""
    field = build()
    field.frequencies.copy_(torch.tensor([2.0, 0.0]).expand(8, 2))
    frequencies = (zoom * field.frequencies)[None]
    torch.testing.assert_close(field._amplitudes(frequencies), torch.full((1, 8), amplitude, dtype=torch.float64))
    field.transform.copy_(torch.diag(torch.tensor([zoom, zoom, 1.0])))
    assert (field(W).abs().max() > 0) == (amplitude > 0)


def test_autocast_does_not_round_phases() -> None:
    field = build().float()
    w = torch.randn(2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = field(w)
    assert torch.equal(inside, field(w))
