"""Daubechies' least asymmetric wavelets ("symlets", Ten Lectures on Wavelets, 1992) and a filter bank made of them.

A symlet with m vanishing moments is the orthonormal low-pass filter h of 2m taps, in the order of PyWavelets' `dec_lo`:

    sum_k h_k = sqrt(2);   sum_k h_k h_{k+2s} = [s = 0];   sum_k (-1)^k k^j h_k = 0 for j = 0, ..., m - 1.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

SYM2: tuple[float, ...] = tuple(
    (1 + sign * math.sqrt(3) + two) / (4 * math.sqrt(2)) for sign, two in ((-1, 0), (-1, 2), (1, 2), (1, 0))
)

SYM6: tuple[float, ...] = (
    0.015404109327045105,
    0.0034907120842218703,
    -0.1179901111485274,
    -0.04831174258571853,
    0.4910559419279536,
    0.7876411410286537,
    0.33792942172818685,
    -0.07263752278636057,
    -0.02106029251236592,
    0.04472490177078311,
    0.001767711864255396,
    -0.007800708325031961,
)
"""PyWavelets' table, refined from its 12 digits to 16 by Newton steps on the equations above."""

NUM_BANDS = 4


@cache
def octave_bank() -> np.ndarray:
    """Return four zero-phase filters (4, 43) float64 that cut the spectrum into octaves and sum to the identity.

    The octaves are, from the lowest, [0, pi/8], [pi/8, pi/4], [pi/4, pi/2] and [pi/2, pi]. With `U(z) = L(-z)` and
    `L(z) = H(z) H(1/z) / 2` of sym2, orthonormality is `L + U = 1`; what L keeps is cut again, at half the frequency.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    centre = len(low) // 2
    high = low * (-1.0) ** (np.arange(len(low)) - centre)
    bank = np.ones((1, 1))
    for _ in range(NUM_BANDS - 1):
        # Zeros between the taps halve all frequencies; the low-pass filter removes the image that this creates.
        stretched = np.zeros((len(bank), 2 * bank.shape[1] - 1))
        stretched[:, ::2] = bank
        lower = np.stack([np.convolve(band, low) for band in stretched])
        side = (lower.shape[1] - len(high)) // 2
        bank = np.concatenate([lower, np.pad(high, side)[None]])
    return bank
