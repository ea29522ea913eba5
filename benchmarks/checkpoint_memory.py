"""How much memory a process needs to save and to load its part of a sharded checkpoint.

    python -m benchmarks.checkpoint_memory            # a table; half a minute
    python -m benchmarks.checkpoint_memory --json

Two gloo processes, a stack of linear layers, Adam and an average, so four numbers per parameter. Peaks are the kernel's
own high-water marks of resident memory (Linux), reset before each measurement. What a save may need is this process's
share of the state, in CPU memory while it is written, and one tensor, when averages are put together.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.table import Table
from torch import Tensor, nn

from benchmarks.report import command_line, show
from framework.checkpoint import Checkpoint, Retention, Writer
from framework.engines.choose import build_engine
from framework.engines.ema import EMA
from framework.recipe import Adam, EngineName, Network, Player
from framework.train.state import TrainingState
from framework.utils.quantities import format_bytes
from tests.helpers.spawn import run_ranks

ENGINES: tuple[EngineName, ...] = ("ddp", "zero1", "zero2", "zero3", "fsdp2")
WORLD, LAYERS, WIDTH = 2, 12, 1024
SLACK_BYTES = 24 * 2**20
"""What hashing, the 8 MiB read buffer, the allocator and gloo may add; measured below that on every engine."""


class Stack(nn.Sequential):
    """Linear layers whose values are always the same."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def play(engine: EngineName, folder: str) -> dict[str, Tensor]:
    """Save twice, load once; peaks above what was resident before, and the bytes that this process saves."""
    player = Player(network=Network(Stack), optimizer=Adam(lr=1e-3, betas=(0.0, 0.99)))
    built = build_engine(Stack(), player, side="generator", engine=engine, precision="fp32")
    state = TrainingState(players={"generator": built}, averages={"generator": EMA(built)}, memory={"generator": {}})
    main, found = dist.get_rank() == 0, {}
    largest = max(tensor_slice.values.nbytes for tensor_slice in state.slices(own=True, buffers=main))
    with Writer(Path(folder), rank=dist.get_rank(), world=WORLD, token="memory", retention=Retention(last=2)) as writer:
        for images in (1, 2):
            before = _restart_peak()
            writer.save(images, state.slices(own=True, buffers=main), record={"players": state.record()})
            saved = writer.wait()
            found[f"save {images}"] = _peak() - before
    assert saved is not None
    for _ in state.slices(own=False, buffers=True):  # moments exist from the first step on; before, when asked for
        pass
    with Checkpoint.open(Path(folder) / "2") as checkpoint:
        before = _restart_peak()
        state.restore(checkpoint)
        found["load"] = _peak() - before
    built.close()
    found |= {"share": saved.num_bytes, "largest tensor": largest}
    return {name: torch.tensor(value) for name, value in found.items()}


def _restart_peak() -> int:
    """Begin a new high-water mark; what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def measure(engine: EngineName, folder: str) -> dict[str, Any]:
    """The row of one engine: of every figure, the larger one of the processes."""
    ranks = run_ranks(play, WORLD, engine, folder)
    row = {name.replace(" ", "_"): max(int(rank[name]) for rank in ranks) for name in ranks[0]}
    whole = sum(int(rank["share"]) for rank in ranks)
    return {"engine": engine, "world": WORLD, "whole_state": whole} | row


def main() -> None:
    """Print the table, or JSON."""
    rows = []
    as_json = command_line(__doc__).parse_args().json
    for engine in ENGINES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(engine, folder))
    table = Table("engine", "whole state", "share of a rank", "first save", "second save", "load", "largest tensor")
    for row in rows:
        names = ("whole_state", "share", "save_1", "save_2", "load", "largest_tensor")
        table.add_row(row["engine"], *(format_bytes(row[name]) for name in names))
    show({"checkpoint_memory": rows}, table, as_json=as_json)


if __name__ == "__main__":
    main()
