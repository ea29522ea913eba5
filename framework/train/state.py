"""What a checkpoint of a run holds, and how it is put back: the glue between engines and the checkpoint room."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from framework.checkpoint import Checkpoint, Piece
from framework.engines.averaging import Average
from framework.engines.base import Engine


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Every tensor that training changes, by player."""

    players: Mapping[str, Engine]
    averages: Mapping[str, Average]
    """Moving averages of some of the players."""

    def pieces(self, *, is_main: bool) -> Iterator[Piece]:
        """This process's part of a checkpoint; over all processes every element appears once."""
        for side, engine in self.players.items():
            for fragment in engine.fragments(own=True):
                key = f"{side}/{fragment.kind}/{fragment.name}"
                yield Piece(key=key, start=fragment.start, values=fragment.values, shape=fragment.shape)
                if fragment.kind == "weight" and side in self.averages:
                    average = self.averages[side].weights[fragment.name, fragment.start]
                    key = f"{side}/ema/{fragment.name}"
                    yield Piece(key=key, start=fragment.start, values=average, shape=fragment.shape)
            if is_main:
                yield from _buffer_pieces(f"{side}/buffer", dict(engine.network.named_buffers()))
                if side in self.averages:
                    yield from _buffer_pieces(f"{side}/ema_buffer", self.averages[side].buffers)

    def record(self) -> dict[str, Any]:
        """Small states besides tensors, as JSON."""
        return {
            side: {"steps_taken": engine.steps_taken(), "engine_state": engine.state()}
            for side, engine in self.players.items()
        }

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Read this process's part of `checkpoint`, whatever engine and world size wrote it.

        Raises:
            CheckpointError: a tensor is missing or has another shape.
        """
        for side, engine in self.players.items():
            for fragment in engine.fragments(own=False):
                stop = fragment.start + fragment.values.numel()
                checkpoint.read(f"{side}/{fragment.kind}/{fragment.name}", fragment.start, stop, fragment.values)
                if fragment.kind == "weight" and side in self.averages:
                    average = self.averages[side].weights[fragment.name, fragment.start]
                    checkpoint.read(f"{side}/ema/{fragment.name}", fragment.start, stop, average)
            for name, buffer in engine.network.named_buffers():
                _restore_buffer(checkpoint, f"{side}/buffer/{name}", buffer)
            if side in self.averages:
                for name, buffer in self.averages[side].buffers.items():
                    _restore_buffer(checkpoint, f"{side}/ema_buffer/{name}", buffer)
            engine.commit(steps_taken=checkpoint.record["players"][side]["steps_taken"])
            engine.load_state(checkpoint.record["players"][side]["engine_state"])


def _buffer_pieces(prefix: str, buffers: Mapping[str, Tensor]) -> Iterator[Piece]:
    for name, buffer in buffers.items():
        yield Piece(key=f"{prefix}/{name}", start=0, values=buffer.detach().reshape(-1), shape=tuple(buffer.shape))


def _restore_buffer(checkpoint: Checkpoint, key: str, buffer: Tensor) -> None:
    values = torch.empty(buffer.numel(), dtype=buffer.dtype, device="cpu")
    checkpoint.read(key, 0, buffer.numel(), values)
    buffer.copy_(values.view(buffer.shape))
