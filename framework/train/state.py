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

    def pieces(self, *, own: bool, buffers: bool) -> Iterator[Piece]:
        """Live views of the state on this process.

        Args:
            own: of tensors that several processes hold, only this process's share; over all processes every element
                then appears once.
            buffers: with the networks' buffers, which every process holds whole.
        """
        for side, engine in self.players.items():
            average = self.averages.get(side)
            for part in engine.fragments(own=own):
                yield Piece(
                    key=f"{side}/{part.kind}/{part.name}", start=part.start, values=part.values, shape=part.shape
                )
                if part.kind == "weight" and average:
                    values = average.weights[part.name, part.start]
                    yield Piece(key=f"{side}/ema/{part.name}", start=part.start, values=values, shape=part.shape)
            if buffers:
                yield from _buffers(f"{side}/buffer", dict(engine.network.named_buffers()))
                yield from _buffers(f"{side}/ema_buffer", average.buffers if average else {})

    def record(self) -> dict[str, Any]:
        """Small states besides tensors, as JSON."""
        return {
            side: {"steps_taken": engine.steps_taken(), "engine_state": engine.state()}
            for side, engine in self.players.items()
        }

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Read this process's part of `checkpoint`, whatever engine and number of processes wrote it.

        Raises:
            CheckpointError: a tensor is missing or has another shape.
        """
        for piece in self.pieces(own=False, buffers=True):
            checkpoint.fill(piece)
        for side, engine in self.players.items():
            small = checkpoint.record["players"][side]
            engine.commit(steps_taken=small["steps_taken"])
            engine.load_state(small["engine_state"])


def _buffers(prefix: str, buffers: Mapping[str, Tensor]) -> Iterator[Piece]:
    for name, buffer in buffers.items():
        yield Piece(key=f"{prefix}/{name}", start=0, values=buffer.detach().view(-1), shape=tuple(buffer.shape))
