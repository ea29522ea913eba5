"""The exponential moving average of a player's weights, sharded exactly like the player.

Parameters are averaged in fp32 on the engine's own slices, so nothing is gathered. Of the buffers, running
statistics are averaged like parameters, and everything else (power-iteration vectors, counters) is copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from framework.engines.base import Engine

AVERAGED_BUFFERS = ("running_mean", "running_var")


class EMA:
    """The moving average of `engine`'s network.

    Attributes:
        weights: this process's intervals by (parameter name, start), each a flat tensor (n,) in fp32.
        buffers: every buffer by name, in the buffer's own shape.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        weights = engine.slices(own=False, kinds=("weight",))
        self.weights: dict[tuple[str, int], Tensor] = {(f.name, f.start): f.values.clone() for f in weights}
        self.buffers: dict[str, Tensor] = {n: b.detach().clone() for n, b in engine.network.named_buffers()}

    @property
    def collective(self) -> bool:
        """Whether `swapped_in` communicates, so that every process must enter it."""
        return self._engine.collective_forward

    @torch.no_grad()
    def update(self, *, kept_share: float) -> None:
        """Replace the average by kept_share * average + (1 - kept_share) * network."""
        live = {(f.name, f.start): f.values for f in self._engine.slices(own=False, kinds=("weight",))}
        if self.weights:  # of a network with few rows, a process of many may hold none
            torch._foreach_lerp_(list(self.weights.values()), [live[key] for key in self.weights], 1.0 - kept_share)
        for name, buffer in self._engine.network.named_buffers():
            if name.rpartition(".")[2] in AVERAGED_BUFFERS:
                self.buffers[name].lerp_(buffer, 1.0 - kept_share)
            else:
                self.buffers[name].copy_(buffer)

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[nn.Module]:
        """Yield the engine's own network computing with the average, in eval mode; swap back afterwards.

        What is done to its buffers inside (settling statistics, power iterations) leaves no trace. Every process must
        enter when the engine communicates in its forward pass.
        """
        network, training = self._engine.network, self._engine.network.training
        kept = {name: buffer.clone() for name, buffer in self.buffers.items()}
        self._swap()
        network.eval()
        try:
            with self._engine.resident():  # gathered once, however many batches are drawn
                yield network
        finally:
            network.train(training)
            self._swap()
            self.buffers = kept

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter_slice in self._engine.slices(own=False, kinds=("weight",)):
            _exchange(parameter_slice.values, self.weights[parameter_slice.name, parameter_slice.start])
        for name, buffer in self._engine.network.named_buffers():
            _exchange(buffer, self.buffers[name])
        self._engine.commit()


def _exchange(a: Tensor, b: Tensor) -> None:
    kept = a.clone()
    a.copy_(b)
    b.copy_(kept)
