"""What a checkpoint of a run holds, and how it is put back: the glue between engines and the checkpoint room."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from framework.checkpoint import Checkpoint, Piece
from framework.engines.averaging import Average
from framework.engines.base import Engine
from framework.objectives.penalties import Memory


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Every tensor that training changes, by player."""

    players: Mapping[str, Engine]
    averages: Mapping[str, Average]
    """Moving averages of some of the players."""
    memory: Mapping[str, Memory]
    """What the game remembers between turns, by player; see `AlternatingGame.memory`."""

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
                yield from _buffers(f"{side}/weight", _frozen(engine.network))
                yield from _buffers(f"{side}/ema", _frozen(engine.network) if average else {})
                yield from _buffers(f"{side}/buffer", dict(engine.network.named_buffers()))
                yield from _buffers(f"{side}/ema_buffer", average.buffers if average else {})

    def record(self) -> dict[str, Any]:
        """Small states besides tensors, as JSON."""
        return {
            side: {
                "steps_taken": engine.steps_taken(),
                "engine_state": engine.state(),
                "memory": {name: float(value) for name, value in self.memory[side].items()},
            }
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
            self.memory[side].clear()
            for name, value in small.get("memory", {}).items():
                self.memory[side][name] = torch.tensor(value, dtype=torch.float64)


def _frozen(network: nn.Module) -> dict[str, Tensor]:
    """Parameters that are not trained, which no engine holds."""
    return {name: p.detach() for name, p in network.named_parameters() if not p.requires_grad}


def _buffers(prefix: str, buffers: Mapping[str, Tensor]) -> Iterator[Piece]:
    for name, buffer in buffers.items():
        yield Piece(key=f"{prefix}/{name}", start=0, values=buffer.detach().view(-1), shape=tuple(buffer.shape))
