"""Who is to blame when a launch makes no progress: what processes note about themselves, and the sentence made of it.

In synchronous training everybody waits as soon as one process does, so "no progress" is seen on all of them at once;
what tells the culprit from the others is what it was doing, and whether it still speaks.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping

STEP = "a training step"
DATA = "waiting for data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """What a process says about itself; its watchdog writes it, whatever the main thread does."""

    rank: int
    host: str
    pid: int
    number: int
    """Counts up with every note."""
    doing: str
    images: int
    quiet_seconds: float
    """Since its main thread last made progress."""
    limit_seconds: float
    """How long what it does may take."""
    details: str = ""
    """What it waits for, in words."""
    ended: bool = False
    """It has left training in good order."""

    def to_bytes(self) -> bytes:
        """JSON, for a key-value store."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        """The note that `to_bytes` wrote."""
        return cls(**json.loads(data))

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.host}, process {self.pid})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What one process knows of another."""

    note: Note | None
    """Its newest note; None: it has never written one."""
    unchanged_seconds: float
    """For how long no newer one has come."""

    @property
    def quiet_seconds(self) -> float:
        """How long its main thread has made no progress, as far as is known."""
        return (self.note.quiet_seconds if self.note else 0.0) + self.unchanged_seconds


def verdict(
    own: Note,
    others: Mapping[int, Seen],
    *,
    stall_seconds: float,
    store_silent_seconds: float = 0.0,
    store: str = "",
    alarmed: bool = False,
) -> str | None:
    """The sentence to end with; None while somebody may still make progress.

    A launch is stalled when nobody is within its limit any more. A process whose notes have stopped for half of
    `stall_seconds` is frozen or gone: then nothing is worth waiting longer than `stall_seconds` for.

    Args:
        others: by rank; of ranks that have ended nothing is expected.
        store_silent_seconds: how long the store of the notes has not answered.
        store: where it is, in words.
        alarmed: another process has come to its verdict already.
    """
    others = {rank: seen for rank, seen in others.items() if not (seen.note and seen.note.ended)}
    store_is_silent = store_silent_seconds > stall_seconds / 2
    silent = {} if store_is_silent else {r: s for r, s in others.items() if s.unchanged_seconds > stall_seconds / 2}
    speaking = {} if store_is_silent else {r: s for r, s in others.items() if r not in silent}

    notes = {own.rank: own} | {rank: seen.note for rank, seen in speaking.items() if seen.note}
    quiet = {own.rank: own.quiet_seconds} | {rank: speaking[rank].quiet_seconds for rank in notes if rank != own.rank}
    hopeless = store_is_silent or bool(silent)
    unknown = any(seen.note is None for seen in speaking.values())
    late = not unknown and all(
        quiet[r] > (stall_seconds if hopeless else note.limit_seconds) for r, note in notes.items()
    )
    if not late and not alarmed:
        return None
    head = f"stalled at {own.images:,} images: no progress for {own.quiet_seconds:.0f} s (--stall-seconds "
    if store_is_silent:
        blame = (
            f"{store} has not answered for {store_silent_seconds:.0f} s: that process is frozen, or its machine is "
            "gone, or the network to it is cut"
        )
        return f"{head}{stall_seconds:g}). {blame}. This is {own}: {own.doing}"
    if silent:
        culprits, blame = set(silent), "; ".join(_silence(rank, seen) for rank, seen in sorted(silent.items()))
    else:
        culprits, blame = _blame(notes)
    waiting = _named(notes[rank] for rank in sorted(notes) if rank not in culprits)
    return f"{head}{stall_seconds:g}). {blame}" + (f". Waiting for the others: {waiting}" if waiting else "")


def _silence(rank: int, seen: Seen) -> str:
    if seen.note is None:
        return f"rank {rank} has never said anything: its process did not come up, or cannot reach the first machine"
    return (
        f"{seen.note} has given no sign of life for {seen.unchanged_seconds:.0f} s at least (last seen: "
        f"{seen.note.doing}): the process is frozen, or its machine is gone, or the network to it is cut"
    )


def _blame(notes: Mapping[int, Note]) -> tuple[set[int], str]:
    """The culprits among processes that all still speak, and what to say of them."""
    starving = _where(notes, lambda note: note.doing == DATA)
    if starving:
        texts = [
            f"{notes[rank]} has been waiting for data for {notes[rank].quiet_seconds:.0f} s"
            + (f": {notes[rank].details}" if notes[rank].details else "")
            for rank in sorted(starving)
        ]
        return starving, "; ".join(texts) + "; its source does not answer"
    newest = max(note.images for note in notes.values())
    behind = _where(notes, lambda note: note.images < newest)
    if behind:
        texts = [f"{notes[rank]} is at {notes[rank].images:,} images ({notes[rank].doing})" for rank in sorted(behind)]
        return behind, "; ".join(texts) + f": fallen behind the others, who are at {newest:,}"
    apart = _where(notes, lambda note: note.doing != STEP)
    if apart and len(apart) < len(notes):
        late = [notes[rank] for rank in sorted(apart)]
        return apart, "; ".join(
            f"{note} has not come to an end of {note.doing} for {note.quiet_seconds:.0f} s" for note in late
        )
    if len(notes) == 1:
        (note,) = notes.values()
        return {note.rank}, f"{note} is stuck ({note.doing}); its stack says where"
    doing = next(iter(notes.values())).doing
    return set(notes), f"every process is at the same point ({doing}): a collective does not end; the stacks say which"


def _where(notes: Mapping[int, Note], condition: Callable[[Note], bool]) -> set[int]:
    return {rank for rank, note in notes.items() if condition(note)}


def _named(notes: Iterable[Note]) -> str:
    return ", ".join(f"rank {note.rank} ({note.doing})" for note in notes)
