"""A layer's random numbers as a function of one seed per image: noise (StyleGAN, arXiv:1812.04948, section 2), dropout.

The noise of pixel p in layer l is a hash of (seed, l, p): nothing is stored, the same image gets the same noise on any
process, and the noise is made on the device that uses it. SplitMix64 (Steele et al. 2014,
doi:10.1145/2660193.2660195) in counter mode gives the bits, the Box-Muller transform turns them into normal values.
Int64 arithmetic wraps around on every device.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from framework.runtime.splitmix import mix, shifted, signed

Noise = Literal["none", "const", "random"] | Tensor
"""The source of per-pixel noise: none; each layer's stored noise image; new noise from torch's generator (for sampling
only); or seeds (N,) int64, one per image, of which the noise is a function."""


_GOLDEN = signed(0x9E3779B97F4A7C15)
"""SplitMix64's usual step."""


def _words(seeds: Tensor, layer: int, count: int) -> Tensor:
    """Return random 64-bit words (N, count) int64 for seeds (N,)."""
    counter = torch.arange(1, count + 1, device=seeds.device, dtype=torch.int64) * _GOLDEN
    keys = mix(mix(seeds + _GOLDEN) + layer)
    return mix(keys[:, None] + counter)


@torch.no_grad()
def seeded_uniform(seeds: Tensor, layer: int, count: int) -> Tensor:
    """Return uniform numbers in [0, 1) for one layer, multiples of 2^-24.

    Args:
        seeds: (N,) int64, one per image.
        layer: number of the layer; layers with different numbers get different values.
        count: numbers per image.

    Returns:
        float32 (N, count) on the device of `seeds`.
    """
    return shifted(_words(seeds, layer, count), 40).float() * 2.0**-24


@torch.no_grad()
def seeded_normal(seeds: Tensor, layer: int, height: int, width: int) -> Tensor:
    """Return standard normal noise for one layer.

    Args:
        seeds: (N,) int64, one per image.
        layer: number of the layer; layers with different numbers get different noise.
        height: H in pixels.
        width: W in pixels.

    Returns:
        float32 (N, 1, height, width) on the device of `seeds`.
    """
    count = height * width
    # Box-Muller turns two uniform numbers into two normal ones: 24 bits for each are cut from one 64-bit word.
    bits = _words(seeds, layer, (count + 1) // 2)
    radius = ((shifted(bits, 40) + 1).float() * 2.0**-24).log().mul(-2.0).sqrt()  # of a uniform in (0, 1]
    angle = (bits & 0xFFFFFF).float() * (2.0 * math.pi * 2.0**-24)
    values = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=2).flatten(1)
    return values[:, :count].reshape(-1, 1, height, width)


def random_seeds(count: int, *, device: torch.device) -> Tensor:
    """Draw seeds (count,) int64 from torch's own generator; for sampling only."""
    return torch.randint(1 << 62, (count,), device=device)
