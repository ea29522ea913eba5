"""What a process sends: every collective that reaches torch's process groups, by turn and by purpose.

Counted where all of them pass, in torch's dispatcher, whoever calls (our reducer, DeepSpeed, FSDP2). A collective that
is not known is an error, so nothing is missed.

Bytes sent per process are those of the ring algorithms on N processes, averaged over the processes, with S the bytes of
the whole tensor: all-reduce 2 S (N - 1) / N; reduce-scatter, all-gather, broadcast and reduce S (N - 1) / N. A back end
may send more (gloo has no reduce-scatter of its own); this is what the scheme asks for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from framework.games.base import Turn
from framework.games.runner import GameRunner
from framework.runtime import collectives as collective

REDUCING = ("all-reduce", "reduce-scatter", "reduce")

# Operation -> (its common name, the argument that holds the whole tensor).
_WHOLE = {
    "allreduce_": ("all-reduce", 0),
    "allreduce_coalesced_": ("all-reduce", 0),
    "reduce_": ("reduce", 0),
    "broadcast_": ("broadcast", 0),
    "allgather_": ("all-gather", 0),
    "_allgather_base_": ("all-gather", 0),
    "allgather_coalesced_": ("all-gather", 0),
    "allgather_into_tensor_coalesced_": ("all-gather", 0),
    "reduce_scatter_": ("reduce-scatter", 1),
    "_reduce_scatter_base_": ("reduce-scatter", 1),
    "reduce_scatter_tensor_coalesced_": ("reduce-scatter", 1),
}
_FREE = ("barrier", "monitored_barrier_")


@dataclass(frozen=True)
class Sent:
    """One collective."""

    turn: str
    purpose: str
    """`statistics` for sums that networks and penalties ask for, else `players`."""
    kind: str
    payload: int
    """Bytes of the whole tensor."""

    def on_a_ring(self, world: int) -> float:
        """Bytes sent per process, on average."""
        return self.payload * (world - 1) / world * (2 if self.kind == "all-reduce" else 1)


@dataclass
class Traffic(TorchDispatchMode):
    """Records collectives while it is entered."""

    sent: list[Sent] = field(default_factory=list)
    turn: str = "rest"
    purpose: str = "players"

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("c10d", "_c10d_functional", "c10d_functional"):
            self._note(func, args)
        return func(*args, **(kwargs or {}))

    def _note(self, func: Any, args: Any) -> None:
        name = func._schema.name.partition("::")[2]
        if name in _FREE or name == "wait_tensor":
            return
        assert f"{func.namespace}::{name}" in {f"c10d::{known}" for known in _WHOLE}, f"unknown: {func._schema.name}"
        kind, position = _WHOLE[name]
        self.sent.append(Sent(self.turn, self.purpose, kind, _bytes(args[position])))

    @contextlib.contextmanager
    def within(self, **changes: str) -> Iterator[None]:
        """The innermost turn and purpose count."""
        kept = {name: getattr(self, name) for name in changes}
        for name, value in changes.items():
            setattr(self, name, value)
        try:
            yield
        finally:
            for name, value in kept.items():
                setattr(self, name, value)

    def total(self, *, turn: str, purpose: str = "players", kinds: tuple[str, ...] | None = None) -> int:
        """Payload bytes of what matches."""
        chosen = [s for s in self.sent if s.turn == turn and s.purpose == purpose and s.kind in (kinds or s.kind)]
        return sum(s.payload for s in chosen)


def _bytes(whole: Any) -> int:
    if isinstance(whole, Tensor):
        return whole.numel() * whole.element_size()
    return sum(_bytes(part) for part in whole)


@contextlib.contextmanager
def watched(game: GameRunner) -> Iterator[Traffic]:
    """Records what the steps of `game` send, by turn: `discriminator`, `generator`, the lazy penalties' own, `rest`."""
    assert dist.is_initialized()
    traffic = Traffic()

    def told(name: str, method: Any) -> Any:
        def turn(of: Turn, *arguments: Any, **options: Any) -> Any:
            with traffic.within(turn=f"{of.player}, lazy penalties" if name == "_lazy_step" else of.player):
                return method(of, *arguments, **options)

        return turn

    summing = collective._SumOverProcesses.forward

    def statistics(*arguments: Any) -> Any:
        with traffic.within(purpose="statistics"):
            return summing(*arguments)

    for name in ("_turn", "_lazy_step"):
        setattr(game, name, told(name, getattr(game, name)))
    collective._SumOverProcesses.forward = staticmethod(statistics)
    try:
        with traffic:
            yield traffic
    finally:
        collective._SumOverProcesses.forward = staticmethod(summing)
        for name in ("_turn", "_lazy_step"):
            delattr(game, name)
