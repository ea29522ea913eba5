"""The tensors that a checkpoint of a run holds, and how they are put back into engines and averages.

Sharded tensors are put together for files that any safetensors reader can use, one tensor at a time. Every tensor gets
one owner, the process with the fewest bytes so far. The others send it their slices, so over the whole save each
element travels once at most, and no process holds more than its own share and the tensor at hand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.checkpoint import Checkpoint, TensorSlice
from framework.engines.base import Engine, ParameterSlice
from framework.engines.ema import EMA
from framework.objectives.terms import Memory


def assembled(
    slices: Iterable[ParameterSlice], *, shapes: Mapping[str, tuple[int, ...]], rank: int, world: int, like: Tensor
) -> Iterator[ParameterSlice]:
    """Yield the whole tensors that this process owns; a collective, to be consumed to its end on every process.

    Args:
        slices: this process's intervals, at most one of each tensor.
        shapes: shapes of all tensors, in the same order on every process.
        rank: rank of this process.
        world: number of processes.
        like: a tensor of any shape with the device and the type of all intervals, also where a process holds none.

    Raises:
        ValueError: the intervals of all processes do not make up a tensor.
    """
    held = {parameter_slice.name: parameter_slice for parameter_slice in slices}
    intervals = _intervals(held, list(shapes), world=world, device=like.device)
    load = [0] * world
    # The same owners on every process, tensor by tensor.
    for (name, shape), parts in zip(shapes.items(), intervals, strict=True):
        numel, owner = math.prod(shape), load.index(min(load))
        load[owner] += numel
        if sum(length for _, length in parts) != numel:
            raise ValueError(f"the processes hold {parts} of {name}, which has the shape {shape}")
        # The others send, and the owner puts together.
        mine = held.get(name)
        if rank != owner:
            if mine is not None:
                _exchange([dist.P2POp(dist.isend, mine.values.contiguous(), owner)])
        elif mine is not None and mine.values.numel() == numel:
            yield mine
        else:
            whole = torch.empty(numel, dtype=like.dtype, device=like.device)
            if mine is not None:
                whole[mine.start : mine.start + mine.values.numel()] = mine.values
            _exchange(
                [
                    dist.P2POp(dist.irecv, whole[start : start + length], sender)
                    for sender, (start, length) in enumerate(parts)
                    if length and sender != rank
                ]
            )
            yield ParameterSlice(kind="weight", name=name, start=0, values=whole, shape=shape)


def _intervals(
    held: Mapping[str, ParameterSlice], names: list[str], *, world: int, device: torch.device
) -> list[list[tuple[int, int]]]:
    """Gather (start, length) by tensor and process; the length is 0 where a process holds nothing of a tensor."""
    mine = [(held[name].start, held[name].values.numel()) if name in held else (0, 0) for name in names]
    gathered = [torch.zeros(len(names), 2, dtype=torch.int64, device=device) for _ in range(world)]
    dist.all_gather(gathered, torch.tensor(mine, dtype=torch.int64, device=device))
    return [[(start, length) for start, length in row] for row in torch.stack(gathered, 1).tolist()]


def _exchange(operations: list[dist.P2POp]) -> None:
    if operations:
        for work in dist.batch_isend_irecv(operations):
            work.wait()


_MEMORY = "memory"
"""The kind of the tensors that terms remember, in the keys of checkpoints."""


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Every tensor that training changes, by player."""

    players: Mapping[str, Engine]
    averages: Mapping[str, EMA]
    """The moving averages of some of the players."""
    memory: Mapping[str, Memory]
    """What a game remembers between turns, by player: numbers, and tensors such as pools; see `GameRunner.memory`."""

    def slices(self, *, own: bool, buffers: bool) -> Iterator[TensorSlice]:
        """Yield views of the state on this process, live unless they were put together from several processes.

        Args:
            own: yield what this process saves: of tensors that several processes hold, only its share, and averages
                put together to whole tensors (a collective). Over all processes every element appears once.
            buffers: also yield the networks' buffers and untrained parameters, which every process holds whole.
        """
        for side, engine in self.players.items():
            average = self.averages.get(side)
            for part in engine.slices(own=own):
                yield TensorSlice(
                    key=f"{side}/{part.kind}/{part.name}", start=part.start, values=part.values, shape=part.shape
                )
            if average:
                for part in _averaged(engine, average, whole=own):
                    yield TensorSlice(
                        key=f"{side}/ema/{part.name}", start=part.start, values=part.values, shape=part.shape
                    )
            # What no engine holds.
            if buffers:
                yield from _buffers(f"{side}/weight", _frozen(engine.network))
                yield from _buffers(f"{side}/ema", _frozen(engine.network) if average else {})
                yield from _buffers(f"{side}/buffer", dict(engine.network.named_buffers()))
                yield from _buffers(f"{side}/ema_buffer", average.buffers if average else {})
            if own:
                yield from _buffers(f"{side}/{_MEMORY}", self._own_memory(side, engine))

    def _own_memory(self, side: str, engine: Engine) -> dict[str, Tensor]:
        """Return the remembered tensors that this process saves; every process holds all of them."""
        held = {name: value for name, value in sorted(self.memory[side].items()) if value.dim() > 0}
        return {name: held[name].contiguous() for place, name in enumerate(held) if place % engine.world == engine.rank}

    def record(self) -> dict[str, Any]:
        """Return small states besides tensors by player, as JSON."""
        return {
            side: {
                "steps_taken": engine.steps_taken(),
                "engine_state": engine.state(),
                "memory": {name: float(value) for name, value in self.memory[side].items() if value.dim() == 0},
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
        for tensor_slice in self.slices(own=False, buffers=True):
            checkpoint.fill(tensor_slice)
        # Step counts and loss scales, and what the game remembers.
        for side, engine in self.players.items():
            small = checkpoint.record["players"][side]
            engine.commit(steps_taken=small["steps_taken"])
            engine.load_state(small["engine_state"])
            self.memory[side].clear()
            for name, value in small.get("memory", {}).items():
                self.memory[side][name] = torch.tensor(value, dtype=torch.float64)
            prefix, device = f"{side}/{_MEMORY}/", next(engine.network.parameters()).device
            for key in checkpoint.keys(prefix):
                self.memory[side][key.removeprefix(prefix)] = checkpoint.full(key).to(device)


def _averaged(engine: Engine, average: EMA, *, whole: bool) -> Iterator[ParameterSlice]:
    """Yield the average by this process's intervals, or the whole tensors it saves (a collective if sharded)."""
    sharded = engine.collective_forward
    parts = engine.slices(own=whole and not sharded, kinds=("weight",))
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


def _buffers(prefix: str, buffers: Mapping[str, Tensor]) -> Iterator[TensorSlice]:
    for name, buffer in buffers.items():
        yield TensorSlice(key=f"{prefix}/{name}", start=0, values=buffer.detach().view(-1), shape=tuple(buffer.shape))
