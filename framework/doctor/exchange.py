"""An exchange of messages between the processes of a launch before they form a group, so that missing ones are named.

Torch's own group works or fails as a whole, after its time-out and without names. So the processes first exchange
messages through the launcher's key-value store, where each one describes itself.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from framework.runtime.network import interface_towards, source_towards

_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """The description of a process.

    Attributes:
        rank: the rank among all processes.
        local_rank: the rank on its machine; 0 is the machine's leader.
        host: the name of the machine.
        address: the address of the machine in the network that leads to the first machine.
        interface: the network interface of that address.
    """

    rank: int
    local_rank: int
    host: str
    address: str
    interface: str

    @property
    def machine(self) -> str:
        """The machine's name and address, for messages."""
        return f"{self.host} ({self.address})"


class Exchange:
    """The exchange of JSON messages through the launcher's store.

    Args:
        store: torch's key-value store, seen by all processes.
        rank: this process's rank.
        world: the number of processes.
        timeout_seconds: the time to wait for messages.
    """

    def __init__(self, store: Any, *, rank: int, world: int, timeout_seconds: float) -> None:
        self.store, self.rank, self.world, self.timeout_seconds = store, rank, world, timeout_seconds
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))

    def publish(self, topic: str, message: Any) -> None:
        """Publish a message on `topic` for the processes that collect it."""
        self.store.set(f"doctor/{topic}/{self.rank}", json.dumps(message))

    def collect(self, topic: str, *, ranks: list[int] | None = None, timeout_factor: float = 1.0) -> dict[int, Any]:
        """Return rank -> message on `topic` for those of `ranks` (default: all) whose message comes in time.

        Args:
            topic: the topic.
            ranks: the ranks to wait for.
            timeout_factor: the factor by which the time-out is multiplied.
        """
        received: dict[int, Any] = {}
        wanted = list(range(self.world)) if ranks is None else ranks
        deadline = time.monotonic() + timeout_factor * self.timeout_seconds
        while missing := [rank for rank in wanted if rank not in received]:
            for rank in missing:
                key = f"doctor/{topic}/{rank}"
                if self.store.check([key]):
                    received[rank] = json.loads(self.store.get(key))
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_SECONDS)
        return received

    def leave(self) -> None:
        """End the exchange; the first process, which may hold the store, waits for all others."""
        self.publish("done", True)
        if self.rank == 0:
            self.collect("done")


def join_exchange(*, timeout_seconds: float) -> Exchange:
    """Join the store that the launcher's variables name.

    Raises:
        RuntimeError: the first process did not open it in time.
    """
    from torch.distributed import rendezvous

    store, rank, world = next(rendezvous("env://", timeout=timedelta(seconds=timeout_seconds)))
    return Exchange(store, rank=rank, world=world, timeout_seconds=timeout_seconds)


def collect_processes(exchange: Exchange) -> dict[int, ProcessInfo]:
    """Return rank -> description of every process that came in time."""
    towards = os.environ.get("MASTER_ADDR", "")
    process = ProcessInfo(
        rank=exchange.rank,
        local_rank=exchange.local_rank,
        host=platform.node(),
        address=source_towards(towards) or "no way to the first machine",
        interface=os.environ.get("GLOO_SOCKET_IFNAME") or interface_towards(towards) or "lo",
    )
    exchange.publish("process", asdict(process))
    return {rank: ProcessInfo(**message) for rank, message in sorted(exchange.collect("process").items())}


def leaders(processes: Mapping[int, ProcessInfo]) -> list[int]:
    """Return the ranks of the machines' leaders, one for each machine."""
    return [rank for rank, process in processes.items() if process.local_rank == 0]


def unreachable(
    exchange: Exchange, processes: Mapping[int, ProcessInfo], *, timeout_seconds: float = 5.0
) -> dict[int, list[int]]:
    """Return leader -> the leaders that it cannot connect to, the same on every leader; all leaders must call it.

    The launcher's port may be open in a firewall while the ports that gloo and NCCL take at random are closed.
    """
    chosen = leaders(processes)
    with socket.create_server(("", 0)) as listener:
        exchange.publish("listening", listener.getsockname()[1])
        ports = exchange.collect("listening", ranks=chosen)
        failed = []
        for rank, port in ports.items():
            try:
                socket.create_connection((processes[rank].address, port), timeout=timeout_seconds).close()
            except OSError:
                failed.append(rank)
        exchange.publish("connected", failed)
        answers = exchange.collect("connected", ranks=chosen, timeout_factor=1 + timeout_seconds * len(chosen) / 60)
    return {rank: sorted({*answers[rank], *(r for r in chosen if r not in ports)}) for rank in answers}
