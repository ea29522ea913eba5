"""Put sharded tensors together for a file that any safetensors reader can use, one tensor at a time.

Every tensor gets one owner, the process with the fewest bytes so far. The others send it their intervals, so over the
whole save each element travels once at most, and no process holds more than its own share and the tensor at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from framework.engines.base import Fragment


def assembled(
    fragments: Iterable[Fragment], *, shapes: Mapping[str, tuple[int, ...]], rank: int, world: int, like: Tensor
) -> Iterator[Fragment]:
    """Yield the whole tensors that this process owns; a collective, to be consumed to its end on every process.

    Args:
        fragments: this process's intervals, at most one of each tensor.
        shapes: shapes of all tensors, in the same order on every process.
        rank: rank of this process.
        world: number of processes.
        like: a tensor of any shape with the device and the type of all intervals, also where a process holds none.

    Raises:
        ValueError: the intervals of all processes do not make up a tensor.
    """
    held = {fragment.name: fragment for fragment in fragments}
    spans = _spans(held, list(shapes), world=world, device=like.device)
    load = [0] * world
    # The same owners on every process, tensor by tensor.
    for (name, shape), parts in zip(shapes.items(), spans, strict=True):
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
            yield Fragment(kind="weight", name=name, start=0, values=whole, shape=shape)


def _spans(
    held: Mapping[str, Fragment], names: list[str], *, world: int, device: torch.device
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
