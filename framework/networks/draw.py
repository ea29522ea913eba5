"""The random numbers of a training forward, which the game provides as functions of the clock.

A network never uses torch's generator in training, because a run must be the same on 1, 2 and 4 processes and after a
resume. A generator that needs more than latents and labels, or a discriminator that needs more than images and labels,
has a method `stochastic(draw)`, which returns keyword arguments for its forward.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn


class Draw(Protocol):
    """The random numbers for the n images of a micro-batch.

    Those of an image depend only on the run's seed, the clock, the turn's purpose, the image's place in the global
    batch, and the name `what`. All tensors are on the network's device.
    """

    def normal(self, what: str, *shape: int) -> Tensor:
        """Return standard normal values (n, *shape), float32."""
        ...

    def uniform(self, what: str, *shape: int) -> Tensor:
        """Return uniform values in [0, 1), (n, *shape), float32."""
        ...

    def integers(self, what: str, high: int, *shape: int) -> Tensor:
        """Return uniform values in [0, high), (n, *shape), int64."""
        ...


def stochastic_inputs(network: nn.Module, draw: Draw) -> dict[str, Any]:
    """Return what a training forward takes besides latents or images, and labels; nothing for most networks."""
    method = getattr(network, "stochastic", None)
    return {} if method is None else method(draw)
