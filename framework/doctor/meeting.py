"""The processes of a launch before they are a group: each says who it is, and who is missing is named.

Torch's own group either stands or fails as a whole, after its time-out and without names. So the processes first meet
in the launcher's key-value store, where each leaves a card.
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
class Card:
    """Who a process is.

    Attributes:
        local_rank: 0 speaks for its machine.
        address: where the others would reach this machine, on the way to the first one.
        interface: of that address.
    """

    rank: int
    local_rank: int
    host: str
    address: str
    interface: str

    @property
    def machine(self) -> str:
        """Name and address, as people know it."""
        return f"{self.host} ({self.address})"


class Meeting:
    """The launcher's store, with messages in JSON.

    Args:
        store: torch's store, seen by all processes.
        timeout_seconds: how long others are waited for.
    """

    def __init__(self, store: Any, *, rank: int, world: int, timeout_seconds: float) -> None:
        self.store, self.rank, self.world, self.timeout_seconds = store, rank, world, timeout_seconds
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))

    def say(self, topic: str, message: Any) -> None:
        """Leave a message for whoever collects `topic`."""
        self.store.set(f"doctor/{topic}/{self.rank}", json.dumps(message))

    def hear(self, topic: str, *, ranks: list[int] | None = None, patience: float = 1.0) -> dict[int, Any]:
        """Messages of `ranks` (default: all) about `topic`, as far as they come in time.

        Args:
            patience: factor on the time-out.
        """
        heard: dict[int, Any] = {}
        wanted = list(range(self.world)) if ranks is None else ranks
        deadline = time.monotonic() + patience * self.timeout_seconds
        while missing := [rank for rank in wanted if rank not in heard]:
            for rank in missing:
                key = f"doctor/{topic}/{rank}"
                if self.store.check([key]):
                    heard[rank] = json.loads(self.store.get(key))
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_SECONDS)
        return heard

    def leave(self) -> None:
        """Let the first process, in which the store may live, be the last to go."""
        self.say("done", True)
        if self.rank == 0:
            self.hear("done")


def meet(*, timeout_seconds: float) -> Meeting:
    """Join the store that the launcher's variables name.

    Raises:
        RuntimeError: the first process did not open it in time.
    """
    from torch.distributed import rendezvous

    store, rank, world = next(rendezvous("env://", timeout=timedelta(seconds=timeout_seconds)))
    return Meeting(store, rank=rank, world=world, timeout_seconds=timeout_seconds)


def introduce(meeting: Meeting) -> dict[int, Card]:
    """Everybody's card; those of missing processes are missing."""
    towards = os.environ.get("MASTER_ADDR", "")
    card = Card(
        rank=meeting.rank,
        local_rank=meeting.local_rank,
        host=platform.node(),
        address=source_towards(towards) or "no way to the first machine",
        interface=os.environ.get("GLOO_SOCKET_IFNAME") or interface_towards(towards) or "lo",
    )
    meeting.say("card", asdict(card))
    return {rank: Card(**message) for rank, message in sorted(meeting.hear("card").items())}


def leaders(cards: Mapping[int, Card]) -> list[int]:
    """One rank of each machine."""
    return [rank for rank, card in cards.items() if card.local_rank == 0]


def unreachable(meeting: Meeting, cards: Mapping[int, Card], *, timeout_seconds: float = 5.0) -> dict[int, list[int]]:
    """Which leaders each leader cannot connect to, the same answer on every leader.

    The launcher's port may be open in a firewall while the ports that gloo and NCCL take at random are closed.
    """
    chosen = leaders(cards)
    with socket.create_server(("", 0)) as listener:
        meeting.say("listening", listener.getsockname()[1])
        ports = meeting.hear("listening", ranks=chosen)
        failed = []
        for rank, port in ports.items():
            try:
                socket.create_connection((cards[rank].address, port), timeout=timeout_seconds).close()
            except OSError:
                failed.append(rank)
        meeting.say("connected", failed)
        answers = meeting.hear("connected", ranks=chosen, patience=1 + timeout_seconds * len(chosen) / 60)
    return {rank: sorted({*answers[rank], *(r for r in chosen if r not in ports)}) for rank in answers}
