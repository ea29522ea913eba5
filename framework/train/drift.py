"""Find replicated state that differs between processes before it is saved, and name the processes and tensors.

Data-parallel training assumes that what every process holds whole is the same on all of them. A flipped bit in memory,
a faulty device or a mistake in an update breaks that without an error: losses look healthy, and the next checkpoint,
which takes its pieces from different processes, is a mixture of two networks. So before each save every process takes a
checksum of its copies, bit for bit, and the checksums are compared.

Sharded tensors have no copies to compare. What is left of a sharded engine are buffers, the parameters of ZeRO-1 and
ZeRO-2, and the small states. Random number generators, positions in the data and timings differ between processes by
design and are not looked at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from framework.engines.ddp import DDPEngine
from framework.runtime.session import Session
from framework.train.state import TrainingState
from framework.utils.errors import FrameworkError

COLUMNS, ROWS_IN_CACHE = 4096, 16
_SHOWN = 4
_RECORD = "small states (steps taken, loss scale, memories)"
_RUNNING = ("running_mean", "running_var", "num_batches_tracked")
_CAUSES = {
    "statistics": "a running statistic: usually a torch.nn.BatchNorm, or a norm like it, follows the images of its own "
    "process; use framework.networks.blocks.norm",
    "buffer": "a buffer: usually a forward changes it by the images, the random numbers or the clock of its own "
    "process; keep it in framework.networks.blocks.moving.MovingMean, which the game moves",
    "parameter": "a parameter, or what its optimiser or average keeps of it: gradients are equal on all processes, so "
    "usually something writes to it outside the optimiser, by what one process alone has seen or drawn",
    "record": "remembered between turns: usually a penalty or an augmentation puts into its memory what it has not "
    "summed over processes",
}
"""The usual cause by the kind of tensor; the first kind that differs is named."""


class DriftError(FrameworkError):
    """Raised when copies of the same state differ between processes."""


def check_drift(state: TrainingState, record: Mapping[str, Any], *, session: Session, images_seen: int) -> None:
    """Compare all copies of the replicated state (a collective).

    Args:
        record: small states as plain values that must be equal too.
        images_seen: the clock, for the message.

    Raises:
        DriftError: copies differ; it names the processes in the minority and the tensors, on every process alike.
    """
    if session.world == 1:
        return
    # One checksum of each tensor, and one of them all: two numbers are compared.
    tensors = dict(replicated(state))
    text = json.dumps(record, sort_keys=True).encode()
    small = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    names = [*tensors, _RECORD]
    sums = torch.stack([*(checksum(tensor) for tensor in tensors.values()), checksum(small.to(session.device))])
    whole = torch.stack([checksum(sums), checksum_of_names(names).to(session.device)])
    if len(set(map(tuple, _gathered(whole, session)))) == 1:
        return
    # Only where they differ are all checksums compared: the same verdict on every process, from the same table.
    counts = _gathered(torch.tensor([len(names)], device=session.device), session)
    if len(set(map(tuple, counts))) > 1:
        raise DriftError(
            f"at {images_seen:,} images processes hold different numbers of tensors, {[c[0] for c in counts]} by rank: "
            "start all of them with the same recipe and the same version of this program"
        )
    differing = deviations(names, _gathered(sums, session))
    distances = _distances(tensors, list(differing), session)
    raise DriftError(_message(differing, distances, images_seen=images_seen, world=session.world))


def replicated(state: TrainingState) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of which each process holds a whole copy, of any shape, with its key in checkpoints."""
    for side, engine in state.players.items():
        average = state.averages.get(side)
        for name, parameter in engine.network.named_parameters():
            if not _sharded(parameter):
                yield f"{side}/weight/{name}", parameter.detach()
        for name, buffer in engine.network.named_buffers():
            yield f"{side}/buffer/{name}", buffer
        for name, buffer in average.buffers.items() if average else ():
            yield f"{side}/ema_buffer/{name}", buffer
        if isinstance(engine, DDPEngine):
            for part in engine.slices(own=False):
                if part.kind != "weight":
                    yield f"{side}/{part.kind}/{part.name}", part.values
            for (name, _), values in average.weights.items() if average else ():
                yield f"{side}/ema/{name}", values


def _sharded(parameter: Tensor) -> bool:
    """Return whether each process holds a part: FSDP2's parameters are DTensors, and ZeRO-3's have a `ds_id`."""
    return hasattr(parameter, "to_local") or hasattr(parameter, "ds_id")


@torch.no_grad()
def checksum(tensor: Tensor) -> Tensor:
    """Return an integer (int64, a scalar on the tensor's device) that depends on every bit and on its place.

    The bits of the tensor, of any shape, are 64-bit words in a table of `COLUMNS` columns. The checksum adds up the
    sums of the columns, the sums of the rows and the words of an incomplete last row, each times an odd number of its
    own, modulo 2^64. Integer sums do not depend on the order of addition, so equal bits give equal numbers on any
    device. One changed word always shows (an odd number times a difference is not 0 modulo 2^64); a change that stays
    hidden needs four words on the corners of a rectangle that cancel, or chance (2^-64).
    """
    # The tensor as 64-bit words, padded with zeros.
    flat = tensor.detach().contiguous().view(-1)
    num_bytes = flat.numel() * flat.element_size()
    if num_bytes % 8 or flat.storage_offset() * flat.element_size() % 8:
        padded = torch.zeros(num_bytes + -num_bytes % 8, dtype=torch.uint8, device=flat.device)
        padded[:num_bytes] = flat.view(torch.uint8)
        flat = padded
    words = flat.view(torch.int64)
    # The table, and what does not fill a row.
    rows = len(words) // COLUMNS
    table, rest = words[: rows * COLUMNS].view(rows, COLUMNS), words[rows * COLUMNS :]
    # A processor's cache holds so many rows, so that both sums need one pass over memory.
    blocks = table.split(ROWS_IN_CACHE if words.device.type == "cpu" else max(1, rows))
    columns, by_row = words.new_zeros(COLUMNS), []
    for block in blocks:
        columns = columns + block.sum(0)
        by_row.append(block.sum(1))
    parts = torch.cat([columns, *by_row, rest])
    return (parts * _odd_numbers(len(parts), flat.device)).sum()


def checksum_of_names(names: Sequence[str]) -> Tensor:
    """Return a scalar (int64, on the CPU) by which processes see that they compare the same tensors."""
    return checksum(torch.frombuffer(bytearray("\n".join(names).encode()), dtype=torch.uint8))


def _odd_numbers(count: int, device: torch.device) -> Tensor:
    """Return `count` odd 64-bit numbers without a pattern (count,), mixed by products that overflow on purpose."""
    numbers = torch.arange(1, count + 1, dtype=torch.int64, device=device) * -7046029254386353131
    numbers = (numbers ^ (numbers >> 31)) * -4658895280553007687
    return (numbers ^ (numbers >> 29)) | 1


def deviations(names: Sequence[str], by_rank: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Map tensors that differ to the ranks in the minority; without a majority, to those that differ from rank 0.

    Args:
        by_rank: one checksum per name, for each rank.
    """
    found = {}
    for index, name in enumerate(names):
        column = [sums[index] for sums in by_rank]
        ((common, _),) = Counter(column).most_common(1)  # of equally common ones the first, which is rank 0's
        ranks = [rank for rank, value in enumerate(column) if value != common]
        if ranks:
            found[name] = ranks
    return found


def _gathered(values: Tensor, session: Session) -> list[list[int]]:
    parts = [torch.empty_like(values) for _ in range(session.world)]
    dist.all_gather(parts, values.contiguous())
    return [part.tolist() for part in parts]


def _distances(tensors: Mapping[str, Tensor], names: Sequence[str], session: Session) -> dict[str, float]:
    """Return how far the first few tensors are at most from rank 0's copy, which tells rounding from garbage."""
    found = {}
    for name in [name for name in names if name in tensors][:_SHOWN]:
        values = tensors[name].detach()
        reference = values.clone().contiguous()
        dist.broadcast(reference, 0)
        apart = (values.double() - reference.double()).abs().nan_to_num(nan=float("inf")).max()
        found[name] = session.max_over_ranks(float(apart))
    return found


def _message(
    differing: Mapping[str, list[int]], distances: Mapping[str, float], *, images_seen: int, world: int
) -> str:
    ranks = sorted({rank for some in differing.values() for rank in some})
    who = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
    shown = [f"{name} (by {distances[name]:.1e})" if name in distances else name for name in differing]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    against = "rank 0" if world == 2 else "the others"
    return (
        f"the copies of the state have come apart: at {images_seen:,} images {who} differs from {against} in "
        f"{', '.join(shown[:_SHOWN])}{more}. {_usual_cause(list(differing))}. Nothing was saved; the same command "
        f"continues from the checkpoint before. If no program is at fault and {who} differs again, suspect the memory "
        "or the device of its machine (`framework doctor` there). Do not mix machines of different make or with "
        "different versions of torch in one launch: they compute different bits"
    )


def _usual_cause(names: Sequence[str]) -> str:
    """Say what programs usually do wrong when these tensors differ; buffers first, because the rest follows them."""
    kinds = {name: _kind(name) for name in names}
    for kind, cause in _CAUSES.items():
        if kind in kinds.values():
            first = next(name for name in names if kinds[name] == kind)
            return f"{first} is {cause}"
    raise AssertionError(f"no kind for {names}")


def _kind(name: str) -> str:
    """Return the kind of tensor that a checkpoint's key names, as in `_CAUSES`."""
    if name == _RECORD:
        return "record"
    _, kind, tensor = name.split("/", 2)
    if kind not in ("buffer", "ema_buffer"):
        return "parameter"
    return "statistics" if tensor.rpartition(".")[2] in _RUNNING else "buffer"
