"""Sizes of residual networks: sides of feature maps, channels on each, and checks of constructor arguments.

The channel tables are those of the public reproductions of SNGAN, SAGAN and BigGAN, in multiples of a `width`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from framework.utils.errors import FrameworkError

GENERATOR_MULTIPLES = {
    32: (4, 4, 4, 4),
    48: (8, 4, 2, 1),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
}
"""Channels of the feature maps in multiples of `width`, from the coarsest to the image, by resolution.

Above 256 px each further feature map has the multiple 1.
"""

DISCRIMINATOR_MULTIPLES = {
    32: (2, 2, 2, 2),
    48: (1, 2, 4, 8, 16),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
}
"""Channels of the feature maps in multiples of `width`, from the image down, by resolution.

Above 256 px each further feature map, placed before these, has the multiple 1.
"""


def generator_widths(resolution: int, *, width: int, multiples: Sequence[int] | None = None) -> list[int]:
    """Return the channels of the generator's feature maps, coarsest first: one number more than `generator_sides`.

    Args:
        resolution: side of the images, 48 or a power of two of at least 32.
        width: channels per multiple.
        multiples: channels of each map in multiples of `width`; None = `GENERATOR_MULTIPLES`.

    Raises:
        FrameworkError: `multiples` has the wrong length, or a number below 1.
    """
    sides = generator_sides(resolution)
    if multiples is None:
        multiples = (*GENERATOR_MULTIPLES[min(resolution, 256)], *[1] * _beyond_256(resolution))
    if len(multiples) != len(sides) + 1 or min(multiples) < 1:
        raise FrameworkError(
            f"multiples={tuple(multiples)} must be {len(sides) + 1} positive numbers, "
            f"for feature maps of {', '.join(map(str, [first_side(resolution), *sides]))} px"
        )
    return [width * multiple for multiple in multiples]


def discriminator_widths(
    resolution: int, *, width: int, coarsest: int, multiples: Sequence[int] | None = None
) -> list[int]:
    """Return the channels after each of the discriminator's blocks, finest first.

    Blocks halve the side down to `coarsest`; further ones keep it.

    Args:
        resolution: side of the images, 48 or a power of two of at least 32.
        width: channels per multiple.
        coarsest: side of the last feature map.
        multiples: channels of each map in multiples of `width`; None = `DISCRIMINATOR_MULTIPLES`.

    Raises:
        FrameworkError: `multiples` is too short or has a number below 1, or `coarsest` does not suit the resolution.
    """
    if multiples is None:
        multiples = (*[1] * _beyond_256(resolution), *DISCRIMINATOR_MULTIPLES[min(resolution, 256)])
    sides = discriminator_sides(resolution, coarsest=coarsest)
    if len(multiples) < len(sides) or min(multiples) < 1:
        raise FrameworkError(
            f"multiples={tuple(multiples)} must be at least {len(sides)} positive numbers, "
            f"for feature maps of {', '.join(map(str, sides))} px"
        )
    return [width * multiple for multiple in multiples]


def first_side(resolution: int) -> int:
    """Return the side of the generator's first feature map: 4, or 6 at 48 px."""
    return 6 if resolution == 48 else 4


def generator_sides(resolution: int) -> list[int]:
    """Return the sides of the feature maps after each of the generator's blocks."""
    return _doublings(2 * first_side(resolution), resolution)


def discriminator_sides(resolution: int, *, coarsest: int) -> list[int]:
    """Return the sides of the feature maps after each block that halves the resolution, finest first.

    Raises:
        FrameworkError: halving the resolution does not lead to `coarsest`.
    """
    sides = _doublings(coarsest, resolution // 2)[::-1] if coarsest > 0 else []
    if not sides or sides[0] * 2 != resolution:
        halves = ", ".join(str(resolution >> exponent) for exponent in range(1, resolution.bit_length() - 1))
        raise FrameworkError(f"coarsest={coarsest} must be resolution={resolution} halved: {halves}")
    return sides


def check_resolution(resolution: int) -> None:
    """Refuse a resolution without a table.

    Raises:
        FrameworkError: it is neither 48 nor a power of two of at least 32.
    """
    if resolution != 48 and (resolution < 32 or resolution & (resolution - 1)):
        raise FrameworkError(
            f"resolution={resolution} must be 48 or a power of two of at least 32: 32, 64, 128, 256, ..."
        )


def check_sizes(*, classes: int, **sizes: int) -> None:
    """Refuse a negative number of classes, and sizes below 1.

    Raises:
        FrameworkError: an argument is out of range; the message names it.
    """
    if classes < 0:
        raise FrameworkError(f"classes={classes} must be 0 (unconditional) or the number of classes")
    for name, value in sizes.items():
        if value < 1:
            raise FrameworkError(f"{name}={value} must be at least 1")


def check_attention(attention_at: int | None, *, sides: list[int]) -> None:
    """Refuse attention at a side that no feature map has.

    Args:
        attention_at: the side, or None for no attention.
        sides: sides of the feature maps.

    Raises:
        FrameworkError: no feature map has this side; the message lists those there are.
    """
    if attention_at is not None and attention_at not in sides:
        valid = ", ".join(map(str, sides))
        raise FrameworkError(f"attention_at={attention_at} must be None or the side of a feature map: {valid}")


def check_choice(name: str, value: str, choices: object) -> None:
    """Refuse a value that is not one of a `Literal`.

    Args:
        name: name of the argument.
        value: its value.
        choices: the `Literal`.

    Raises:
        FrameworkError: the value is none of these; the message lists them.
    """
    if value not in get_args(choices):
        raise FrameworkError(f"{name}={value!r} must be one of: {', '.join(get_args(choices))}")


def _doublings(first: int, last: int) -> list[int]:
    """Return first, 2 first, 4 first, ... up to `last`."""
    sides = []
    while first <= last:
        sides.append(first)
        first *= 2
    return sides


def _beyond_256(resolution: int) -> int:
    """Return how often 256 px is doubled to reach the resolution; 0 below it."""
    return len(_doublings(512, resolution))
