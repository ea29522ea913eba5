import math
from itertools import pairwise

import pytest

from framework.networks.blocks.flexible_layers import Signal, flexible_layers
from framework.utils.errors import FrameworkError

PAPER = {
    "num_layers": 14,
    "num_critical": 2,
    "first_cutoff": 2.0,
    "first_stopband": 2**2.1,
    "last_stopband_ratio": 2**0.3,
    "margin": 10,
    "channel_base": 2**15,
    "channel_max": 512,
}


def layers(**changes: float) -> tuple[Signal, ...]:
    return flexible_layers(**{"resolution": 1024, **PAPER, **changes})


def test_frequencies_are_geometric_until_critical_sampling() -> None:
    signals = layers()
    assert len(signals) == 14
    assert [s.critical for s in signals] == [False] * 12 + [True] * 2
    ratios = [after.cutoff / before.cutoff for before, after in pairwise(signals[:13])]
    assert ratios == pytest.approx([256 ** (1 / 12)] * 12)
    assert signals[0].cutoff == 2
    assert signals[12].cutoff == signals[13].cutoff == 512
    assert signals[13].stopband == pytest.approx(512 * 2**0.3)


@pytest.mark.parametrize("resolution", [16, 32, 256, 512, 1024])
def test_constraints_of_the_paper(resolution: int) -> None:
    """Equation 36: the rate holds the least stopband unless that exceeds the image's; the band takes the slack."""
    for index, s in enumerate(layers(resolution=resolution)):
        progress = min(index / 12, 1)
        least = 2**2.1 * (resolution / 2 * 2**0.3 / 2**2.1) ** progress
        assert s.sampling_rate == resolution or 2 * least <= s.sampling_rate < 4 * least
        assert s.sampling_rate & (s.sampling_rate - 1) == 0
        assert s.stopband == pytest.approx(max(least, s.sampling_rate / 2))
        assert s.size == (resolution if index == 13 else s.sampling_rate + 20)
        assert s.channels == min(round(2**15 / (2 * s.cutoff)), 512)


def test_channels_fall_with_the_cutoff() -> None:
    assert [s.channels for s in layers(resolution=256)][8:] == [512, 362, 256, 181, 128, 128]
    assert layers(channel_base=2**16, channel_max=1024)[0].channels == 1024


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 48}, "resolution=48 must be a power of two of at least 16"),
        ({"resolution": 8}, "resolution=8 must be a power of two of at least 16"),
        ({"num_critical": 14}, "num_critical=14 must be at least 1 and less than num_layers=14"),
        ({"num_critical": 0}, "num_critical=0 must be at least 1"),
        ({"first_cutoff": 512}, "first_cutoff=512 must lie between 0 and half"),
        ({"first_stopband": 2.0}, "first_stopband=2.0 must lie above first_cutoff=2.0"),
        ({"last_stopband_ratio": 1.0}, "last_stopband_ratio=1.0 must be greater than 1"),
        ({"margin": -1}, "margin=-1 must not be negative"),
        ({"channel_max": 0}, "channel_max=0 must be at least 1"),
    ],
)
def test_refusals(change: dict[str, float], message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        layers(**change)


def test_few_layers_leave_room_for_filters() -> None:
    for s in layers(resolution=16, num_layers=2, num_critical=1):
        assert s.half_width > 0
        assert math.log2(s.sampling_rate).is_integer()
