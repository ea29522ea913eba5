"""Where a training forward gets its random numbers: from the game, as functions of the clock.

A network never asks torch's generator in training, because the same run must come out on 1, 2 and 4 processes and after
a resume. A generator that needs more than latents and labels, or a discriminator that needs more than images and
labels, says so in a method `stochastic(draw)`, which returns keyword arguments for its forward.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn


class Draw(Protocol):
    """Random numbers for the n images of a micro-batch; each depends on its image's place in the global batch only."""

    def normal(self, what: str, *shape: int) -> Tensor:
        """Standard normal values (n, *shape), float32, on the network's device."""
        ...

    def uniform(self, what: str, *shape: int) -> Tensor:
        """Values in [0, 1), (n, *shape), float32."""
        ...

    def integers(self, what: str, high: int, *shape: int) -> Tensor:
        """Values in [0, high), (n, *shape), int64."""
        ...


def stochastic_inputs(network: nn.Module, draw: Draw) -> dict[str, Any]:
    """What a training forward of a player takes besides latents or images, and labels; nothing for most networks."""
    method = getattr(network, "stochastic", None)
    return {} if method is None else method(draw)
