"""The tensors that a checkpoint of a run holds, and how they are put back into engines and averages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from framework.checkpoint import Checkpoint, Piece
from framework.engines.base import Engine, Fragment
from framework.engines.ema import Average
from framework.objectives.penalties import Memory
from framework.train.assembling import assembled


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Every tensor that training changes, by player."""

    players: Mapping[str, Engine]
    averages: Mapping[str, Average]
    """The moving averages of some of the players."""
    memory: Mapping[str, Memory]
    """The small numbers that a game remembers between turns, by player; see `AlternatingGame.memory`."""

    def pieces(self, *, own: bool, buffers: bool) -> Iterator[Piece]:
        """Yield views of the state on this process, live unless they were put together from several processes.

        Args:
            own: yield what this process saves: of tensors that several processes hold, only its share, and averages
                put together to whole tensors (a collective). Over all processes every element appears once.
            buffers: also yield the networks' buffers and untrained parameters, which every process holds whole.
        """
        for side, engine in self.players.items():
            average = self.averages.get(side)
            for part in engine.fragments(own=own):
                yield Piece(
                    key=f"{side}/{part.kind}/{part.name}", start=part.start, values=part.values, shape=part.shape
                )
            if average:
                for part in _averaged(engine, average, whole=own):
                    yield Piece(key=f"{side}/ema/{part.name}", start=part.start, values=part.values, shape=part.shape)
            # What no engine holds.
            if buffers:
                yield from _buffers(f"{side}/weight", _frozen(engine.network))
                yield from _buffers(f"{side}/ema", _frozen(engine.network) if average else {})
                yield from _buffers(f"{side}/buffer", dict(engine.network.named_buffers()))
                yield from _buffers(f"{side}/ema_buffer", average.buffers if average else {})

    def record(self) -> dict[str, Any]:
        """Return small states besides tensors by player, as JSON."""
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
        # Tensors go straight into the live views.
        for piece in self.pieces(own=False, buffers=True):
            checkpoint.fill(piece)
        # Step counts and loss scales, and what the game remembers.
        for side, engine in self.players.items():
            small = checkpoint.record["players"][side]
            engine.commit(steps_taken=small["steps_taken"])
            engine.load_state(small["engine_state"])
            self.memory[side].clear()
            for name, value in small.get("memory", {}).items():
                self.memory[side][name] = torch.tensor(value, dtype=torch.float64)


def _averaged(engine: Engine, average: Average, *, whole: bool) -> Iterator[Fragment]:
    """Yield the average by this process's intervals, or the whole tensors it saves (a collective if sharded)."""
    sharded = engine.collective_forward
    parts = engine.fragments(own=whole and not sharded, kinds=("weight",))
    held = [dataclasses.replace(part, values=average.weights[part.name, part.start]) for part in parts]
    if not (whole and sharded):
        return iter(held)
    parameters = {name: p for name, p in engine.network.named_parameters() if p.requires_grad}
    # ZeRO-3 leaves an empty tensor in place of a parameter that is not gathered.
    shapes = {name: tuple(getattr(p, "ds_shape", p.shape)) for name, p in parameters.items()}
    like = next(iter(parameters.values()))
    return assembled(held, shapes=shapes, rank=engine.rank, world=engine.world, like=like)


def _frozen(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are not trained, which no engine holds, by name and in any shape."""
    return {name: p.detach() for name, p in network.named_parameters() if not p.requires_grad}


def _buffers(prefix: str, buffers: Mapping[str, Tensor]) -> Iterator[Piece]:
    for name, buffer in buffers.items():
        yield Piece(key=f"{prefix}/{name}", start=0, values=buffer.detach().view(-1), shape=tuple(buffer.shape))
