"""The random numbers of a training forward, which the game provides as functions of the clock.

A network never uses torch's generator in training, because a run must be the same on 1, 2 and 4 processes and after a
resume. A generator that needs more than latents and labels, or a discriminator that needs more than images and labels,
has a method `stochastic(draw)`, which returns keyword arguments for its forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

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


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one named draw should be, for every image."""

    kind: Literal["normal", "uniform", "integers"]
    shape: tuple[int, ...] = ()
    high: int = 1
    """The end of the range of `integers`."""


@runtime_checkable
class JointDraw(Protocol):
    """A `Draw` that can answer many requests with one computation."""

    def together(self, what: str, requests: Mapping[str, Request]) -> dict[str, Tensor]:
        """Return values (n, *shape) by name, as the methods of `Draw` return them.

        Args:
            what: the name of all these draws together.
            requests: what to draw, by name.
        """
        ...


def drawn_together(draw: Draw, what: str, requests: Mapping[str, Request]) -> dict[str, Tensor]:
    """Return the requested values (n, *shape) by name, from one computation where `draw` can do that."""
    return draw.together(what, requests) if isinstance(draw, JointDraw) else drawn_apart(draw, requests)


def drawn_apart(draw: Draw, requests: Mapping[str, Request]) -> dict[str, Tensor]:
    """Return the requested values (n, *shape) by name, each drawn by itself."""
    values = {}
    for name, request in requests.items():
        if request.kind == "integers":
            values[name] = draw.integers(name, request.high, *request.shape)
        elif request.kind == "uniform":
            values[name] = draw.uniform(name, *request.shape)
        else:
            values[name] = draw.normal(name, *request.shape)
    return values


def stochastic_inputs(network: nn.Module, draw: Draw) -> dict[str, Any]:
    """Return what a training forward takes besides latents or images, and labels; nothing for most networks."""
    method = getattr(network, "stochastic", None)
    return {} if method is None else method(draw)
