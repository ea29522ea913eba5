"""The process group and the device of one launch.

Accelerate launches the processes, picks the device and opens the process group (`PartialState`); nothing else of it is
used. The session then refuses the known ways of silently training N separate worlds of one process.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from framework.runtime.launchers import LaunchError, adopt_environment, local_processes, told_processes
from framework.runtime.network import adopt_interface

# With these, Accelerate would open DeepSpeed's communication itself, compiling its operators (and hanging on CPUs). A
# launch has the engines of its players; `framework.train.launcher` adopts what an Accelerate configuration asks for.
ENGINES_OF_ACCELERATE = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")


@dataclass(frozen=True, kw_only=True)
class Session:
    """This process among the others of its launch, and the device on which it computes.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes on all machines.
        local_rank: number of this process on its machine, from 0.
        device: where it computes.
    """

    rank: int
    world: int
    local_rank: int
    device: torch.device
    local_world: int = 1
    """Number of processes on this machine."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone talks to the terminal, the journal and MLflow."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process has come here."""
        if self.world > 1:
            dist.barrier()

    def broadcast_text(self, text: str | None) -> str:
        """Return rank 0's text on every process; bytes travel, nothing is pickled. A collective."""
        if self.world == 1:
            return text or ""
        payload = torch.frombuffer(bytearray((text or "").encode() + b"\0"), dtype=torch.uint8).to(self.device)
        length = torch.tensor([payload.numel()], device=self.device)
        dist.broadcast(length, 0)
        if not self.is_main:
            payload = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        dist.broadcast(payload, 0)
        return bytes(payload.cpu().tolist()[:-1]).decode()

    def max_over_ranks(self, value: float) -> float:
        """Return the largest value any process passed. A collective."""
        if self.world == 1:
            return value
        return self._reduced(value, dist.ReduceOp.MAX)

    def sum_over_ranks(self, value: float) -> float:
        """Return the sum of the values that all processes passed. A collective."""
        return self._reduced(value, dist.ReduceOp.SUM) if self.world > 1 else float(value)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return the values of every process, by rank; all must pass equally many. A collective."""
        if self.world == 1:
            return [list(values)]
        own = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        parts = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(parts, own)
        return [part.tolist() for part in parts]

    def gather_names(self, name: str) -> list[str]:
        """Return the name that every process passed, by rank, cut after 64 bytes. A collective."""
        rows = self.gather(list(name.encode()[:64].ljust(64, b"\0")))
        return [bytes(map(int, row)).rstrip(b"\0").decode(errors="ignore") for row in rows]

    def _reduced(self, value: float, operation: dist.ReduceOp.RedOpType) -> float:
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, operation)
        return float(tensor)


@contextlib.contextmanager
def open_session(*, device: str = "auto", timeout_seconds: float = 1800.0) -> Iterator[Session]:
    """Join the other processes of this launch for the block.

    Args:
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        timeout_seconds: how long a collective may wait for a missing process.

    Raises:
        LaunchError: the launcher started fewer processes than it was asked for, or CUDA is missing.
    """
    from accelerate import PartialState

    # What Accelerate and torch read from the environment is put right first.
    adopt_environment()
    adopt_interface()
    for name in ENGINES_OF_ACCELERATE:
        os.environ.pop(name, None)
    told = told_processes()

    # The process group is opened on the device of the launch.
    if device == "cuda" and not torch.cuda.is_available():
        raise LaunchError("--device cuda: no CUDA device is visible; use --device cpu or check CUDA_VISIBLE_DEVICES")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        timeout = datetime.timedelta(seconds=timeout_seconds)
        state = PartialState(cpu=on_cpu, timeout=timeout, **_after_a_restart(timeout))

    # Separate worlds of one process would train without a word: they are refused.
    try:
        if state.num_processes != told:
            raise LaunchError(
                f"the launcher was asked for {told} processes, but this one sees a world of {state.num_processes}: the "
                "processes would train separately. Start with `accelerate launch --config_file launch/accelerate/"
                "cpu_2.yaml ...`, or with launch/torchrun/node.sh."
            )
        yield Session(
            rank=state.process_index,
            world=state.num_processes,
            local_rank=state.local_process_index,
            device=torch.device("cpu") if on_cpu else state.device,
            local_world=local_processes(),
        )
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        PartialState._reset_state()


def _after_a_restart(timeout: datetime.timedelta) -> dict[str, Any]:
    """Return the store through which processes meet again after their launcher has restarted them.

    With static rendezvous (Accelerate's default) the launcher's store outlives a restart and still holds the addresses
    of the processes that have died. torch 2.13 looks for addresses there, so every process would try to connect to a
    dead one; a prefix hides them.
    """
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restarts == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or told_processes() == 1:
        return {}
    address, world = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), told_processes()
    kept = dist.TCPStore(*address, world, is_master=False, timeout=timeout)
    store = dist.PrefixStore(f"restart-{restarts}", kept)
    return {"store": store, "rank": int(os.environ["RANK"]), "world_size": world}
