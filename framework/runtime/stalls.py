"""Finds who is to blame when a launch makes no progress, from the notes that processes write about themselves.

In synchronous training every process waits as soon as one does, so a stall is seen on all of them at once. The culprit
differs from the others in what it was doing, and in whether it still writes notes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping

STEP = "a training step"
DATA = "waiting for data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """The state of a process in its own words; its watchdog writes it, whatever the main thread does."""

    rank: int
    host: str
    pid: int
    number: int
    """Number of the note; each has one more than the last."""
    doing: str
    images: int
    quiet_seconds: float
    """Seconds since its main thread last made progress."""
    limit_seconds: float
    """Seconds that its present work may take without progress."""
    details: str = ""
    """Description of what it waits for; empty unless it is late."""
    ended: bool = False
    """Whether it has left training in good order."""

    def to_bytes(self) -> bytes:
        """Return the note as JSON, for a key-value store."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        """Return the note that `to_bytes` wrote."""
        return cls(**json.loads(data))

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.host}, process {self.pid})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """The knowledge that one process has of another."""

    note: Note | None
    """The other's newest note; None where it has never written one."""
    unchanged_seconds: float
    """Seconds since that note came."""

    @property
    def quiet_seconds(self) -> float:
        """Seconds for which its main thread has made no progress, as far as is known."""
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
    """Return the sentence with which this process ends; None while some process may still make progress.

    A launch is stalled when no process is within its limit any more. A process whose notes have stopped for half of
    `stall_seconds` is frozen or gone; then it is not worth waiting longer than `stall_seconds` for any other.

    Args:
        own: the newest note of this process.
        others: what is known of the other ranks; those that have ended are left out of the judgement.
        stall_seconds: seconds without progress that count as a stall.
        store_silent_seconds: seconds for which the store of the notes has not answered.
        store: description of the store and its place.
        alarmed: another process has judged the launch to be stalled already.
    """
    # Who still writes notes? Without the store, nothing is known of anybody else.
    others = {rank: seen for rank, seen in others.items() if not (seen.note and seen.note.ended)}
    store_is_silent = store_silent_seconds > stall_seconds / 2
    silent = {} if store_is_silent else {r: s for r, s in others.items() if s.unchanged_seconds > stall_seconds / 2}
    speaking = {} if store_is_silent else {r: s for r, s in others.items() if r not in silent}

    # Is everybody late? The long limits (a first step, a save) count only as long as nobody is lost.
    notes = {own.rank: own} | {rank: seen.note for rank, seen in speaking.items() if seen.note}
    quiet = {own.rank: own.quiet_seconds} | {rank: speaking[rank].quiet_seconds for rank in notes if rank != own.rank}
    hopeless = store_is_silent or bool(silent)
    unknown = any(seen.note is None for seen in speaking.values())
    late = not unknown and all(
        quiet[r] > (stall_seconds if hopeless else note.limit_seconds) for r, note in notes.items()
    )
    if not late and not alarmed:
        return None

    # Blame the store, then those that are silent, then the one whose note differs from the others'.
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
        return f"rank {rank} has never written a note: its process did not start, or cannot reach the first machine"
    return (
        f"{seen.note} has given no sign of life for {seen.unchanged_seconds:.0f} s at least (last seen: "
        f"{seen.note.doing}): the process is frozen, or its machine is gone, or the network to it is cut"
    )


def _blame(notes: Mapping[int, Note]) -> tuple[set[int], str]:
    """Return the culprits among processes that all still write notes, and what to say of them."""
    # Waiting for data is the only wait that no other process causes.
    starving = _where(notes, lambda note: note.doing == DATA)
    if starving:
        texts = [
            f"{notes[rank]} has been waiting for data for {notes[rank].quiet_seconds:.0f} s"
            + (f": {notes[rank].details}" if notes[rank].details else "")
            for rank in sorted(starving)
        ]
        return starving, "; ".join(texts) + "; its source does not answer"

    # A process at an earlier clock holds up those that wait for it.
    newest = max(note.images for note in notes.values())
    behind = _where(notes, lambda note: note.images < newest)
    if behind:
        texts = [f"{notes[rank]} is at {notes[rank].images:,} images ({notes[rank].doing})" for rank in sorted(behind)]
        return behind, "; ".join(texts) + f": fallen behind the others, who are at {newest:,}"

    # At the same clock, those that do something else than the step keep the rest of it waiting.
    apart = _where(notes, lambda note: note.doing != STEP)
    if apart and len(apart) < len(notes):
        late = [notes[rank] for rank in sorted(apart)]
        return apart, "; ".join(
            f"{note} has not come to an end of {note.doing} for {note.quiet_seconds:.0f} s" for note in late
        )

    # Nothing tells them apart.
    if len(notes) == 1:
        (note,) = notes.values()
        return {note.rank}, f"{note} is stuck ({note.doing}); its stack says where"
    doing = next(iter(notes.values())).doing
    return set(notes), f"every process is at the same point ({doing}): a collective does not end, the stacks say which"


def _where(notes: Mapping[int, Note], condition: Callable[[Note], bool]) -> set[int]:
    return {rank for rank, note in notes.items() if condition(note)}


def _named(notes: Iterable[Note]) -> str:
    return ", ".join(f"rank {note.rank} ({note.doing})" for note in notes)
