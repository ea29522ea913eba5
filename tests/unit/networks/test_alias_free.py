import math

import pytest
import torch
from scipy import signal, special
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from framework.networks.blocks.alias_free import centred_padding, filtered_leaky_relu, jinc, kaiser_beta, lowpass_filter

BAND = {"cutoff": 2.0, "half_width": 1.5, "sampling_rate": 16.0}


@pytest.mark.parametrize("num_taps", [6, 12, 13, 24])
@pytest.mark.parametrize("half_width", [0.1, 0.6, 1.9])
def test_separable_filter_is_the_textbook_one(num_taps: int, half_width: float) -> None:
    ours = lowpass_filter(num_taps, cutoff=2.0, half_width=half_width, sampling_rate=16.0)
    theirs = signal.firwin(num_taps, cutoff=2.0, width=2 * half_width, fs=16.0)
    torch.testing.assert_close(ours, torch.from_numpy(theirs).float(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("attenuation", [10.0, 30.0, 60.0, 480.0])
def test_window_shape_in_every_branch_of_kaisers_formula(attenuation: float) -> None:
    num_taps = 12
    transition = (attenuation - 7.95) / (2.285 * (num_taps - 1) * math.pi)
    assert kaiser_beta(num_taps, transition=transition) == pytest.approx(signal.kaiser_beta(attenuation), rel=1e-12)


def response(taps: Tensor, x: float, y: float) -> float:
    """Magnitude of the two-dimensional frequency response at frequency (x, y)."""
    taps = taps.double()
    if taps.dim() == 1:
        taps = taps[:, None] * taps[None, :]
    positions = torch.arange(len(taps)) / BAND["sampling_rate"]
    waves = [torch.exp(-2j * math.pi * frequency * positions) for frequency in (y, x)]
    return (waves[0] @ taps.to(waves[0].dtype) @ waves[1]).abs().item()


@pytest.mark.parametrize("radial", [False, True])
def test_bands(radial: bool) -> None:
    taps = lowpass_filter(24, radial=radial, **BAND)
    assert taps.dtype == torch.float32
    assert taps.shape == ((24, 24) if radial else (24,))
    assert response(taps, 0, 0) == pytest.approx(1.0, abs=1e-6)
    assert response(taps, BAND["cutoff"] - BAND["half_width"], 0) > 0.95
    torch.testing.assert_close(taps, taps.flip(list(range(taps.dim()))))
    # The formula is empirical, and for one dimension: 3 dB are granted.
    attenuation = 2.285 * 23 * math.pi * (2 * BAND["half_width"] / 8) + 7.95 - 3
    stop = [response(taps, BAND["cutoff"] + BAND["half_width"] + 0.05 * k, 0) for k in range(91)]
    assert max(stop) < 10 ** (-attenuation / 20)


def test_only_the_radial_filter_treats_directions_alike() -> None:
    diagonal = BAND["cutoff"] / math.sqrt(2)
    radial, separable = (lowpass_filter(24, radial=radial, **BAND) for radial in (True, False))
    along, across = (response(radial, *f) for f in ((BAND["cutoff"], 0), (diagonal, diagonal)))
    assert along == pytest.approx(across, abs=0.01)
    along, across = (response(separable, *f) for f in ((BAND["cutoff"], 0), (diagonal, diagonal)))
    assert across - along > 0.1


def test_jinc() -> None:
    x = torch.linspace(0.01, 40, 4000, dtype=torch.float64)
    bessel = torch.from_numpy(special.j1(math.pi * x.numpy()))
    torch.testing.assert_close(jinc(x), 2 * bessel / (math.pi * x), rtol=0, atol=1e-13)
    assert jinc(torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("radial", [False, True])
def test_derivatives(radial: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    up_filter = lowpass_filter(8, cutoff=2.0, half_width=1.0, sampling_rate=8.0)
    down_filter = lowpass_filter(4, cutoff=2.0, half_width=1.0, sampling_rate=8.0, radial=radial)

    def call(x: Tensor, bias: Tensor) -> Tensor:
        # Squared, so that second derivatives are not zero almost everywhere.
        y = filtered_leaky_relu(
            x, bias, up_filter=up_filter, down_filter=down_filter, up=2, down=2, padding=(5, 4, 8, -1), clamp=0.9
        )
        return y.square()

    assert call(x, bias).abs().max() > 0
    assert gradcheck(call, (x, bias))
    assert gradgradcheck(call, (x, bias))


@pytest.mark.parametrize(
    ("size_in", "size_out", "up", "down", "up_taps", "down_taps"),
    [
        (38, 36, 2, 2, 12, 12),
        (38, 52, 4, 2, 24, 12),
        (54, 32, 2, 2, 12, 12),
        (36, 36, 1, 1, 1, 1),
        (36, 52, 2, 1, 12, 1),
    ],
)
def test_padding_keeps_the_centre(
    size_in: int, size_out: int, up: int, down: int, up_taps: int, down_taps: int
) -> None:
    """A mirrored map gives the mirrored result, and a linear ramp keeps its middle."""
    padding = centred_padding(
        size_in=size_in, size_out=size_out, up=up, down=down, up_taps=up_taps, down_taps=down_taps
    )
    band = {"cutoff": 1.0, "half_width": 1.0, "sampling_rate": 2.0 * up}
    torch.manual_seed(0)
    x = torch.randn(1, 1, size_in, size_in, dtype=torch.float64)

    def resampled(x: Tensor) -> Tensor:
        return filtered_leaky_relu(
            x,
            up_filter=lowpass_filter(up_taps, **band) if up_taps > 1 else None,
            down_filter=lowpass_filter(down_taps, **band) if down_taps > 1 else None,
            up=up,
            down=down,
            padding=(*padding, *padding),
        )

    y = resampled(x)
    assert y.shape == (1, 1, size_out, size_out)
    torch.testing.assert_close(resampled(x.flip((2, 3))), y.flip((2, 3)), rtol=0, atol=1e-12)


def test_gain_of_a_constant() -> None:
    """Upsampling gives back what inserted zeros take: inside, a constant only feels the nonlinearity."""
    x = torch.full((1, 1, 32, 32), 3.0, dtype=torch.float64)
    taps = lowpass_filter(12, cutoff=1.0, half_width=1.0, sampling_rate=8.0)
    options = {"up_filter": taps, "down_filter": taps, "up": 2, "down": 2, "padding": (11, 11, 11, 11)}
    inside = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    # The taps that meet a pixel sum to 1 / up^2 only up to the filter's stopband ripple.
    torch.testing.assert_close(filtered_leaky_relu(x, **options)[inside], math.sqrt(2) * x[inside], rtol=1e-4, atol=0)
    torch.testing.assert_close(
        filtered_leaky_relu(-x, **options)[inside], -0.2 * math.sqrt(2) * x[inside], rtol=1e-4, atol=0
    )
    assert filtered_leaky_relu(x, clamp=2.0, **options)[inside].max().item() == pytest.approx(2.0, rel=1e-4)
