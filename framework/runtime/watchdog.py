"""Ends a process whose launch makes no progress, after saying who is to blame, so that a launcher starts it again.

A frozen process, a cut cable or a data source that hangs does not end anything by itself: the others wait in a
collective for as long as its time-out allows, and then say only that they waited. Here the main thread says what it is
doing (`Progress.beat`), two threads beside it share that with the other processes and judge it, and on a verdict every
process that still runs writes the stacks of its threads to stderr and to the run folder and ends with status `STALLED`.

In synchronous training every process waits as soon as one does, so a stall is seen on all of them at once. The culprit
differs from the others in what it was doing, and in whether it still writes notes (`Note`, `verdict`).

A process can keep its own watchdog from running: by code that holds the interpreter lock for ever. Then a timer of
`faulthandler`, a thread without Python, ends it (status 1).
"""

from __future__ import annotations

import dataclasses
import datetime
import faulthandler
import json
import logging
import math
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import psutil
import torch.distributed as dist

from framework.runtime.family import end_family

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
    images_seen: int
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
    head = f"stalled at {own.images_seen:,} images: no progress for {own.quiet_seconds:.0f} s (--stall-seconds "
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
    newest = max(note.images_seen for note in notes.values())
    behind = _where(notes, lambda note: note.images_seen < newest)
    if behind:
        texts = [
            f"{notes[rank]} is at {notes[rank].images_seen:,} images ({notes[rank].doing})" for rank in sorted(behind)
        ]
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


STALLED = 74
"""Exit status after a stall (EX_IOERR: something did not answer). Launchers start again on any but 0. Not 75, for which
schedulers start again without counting: a source that stays dead must use up its restarts."""
LONGER = 3.0
"""Multiple of `--stall-seconds` that long work may take: a first step (it compiles and fills caches), a save, sampling.
Collectives have this time-out too: a process that waits for such work must not give up before it is done."""
READING_FROM = 0.4
"""Share of `--stall-seconds` that a process is without progress before it reads the others' notes."""
REPORT_SECONDS = 10.0
BACKSTOP_SECONDS = 30.0

log = logging.getLogger(__name__)


class Progress:
    """The present work of the main thread. A beat costs two attribute writes, so it may be given anywhere and often.

    Attributes:
        images_seen: the clock.
        details: called from another thread when the main thread is late; returns a description of what it waits for.
    """

    def __init__(self) -> None:
        self.images_seen = 0
        self.details: Callable[[], str] = lambda: ""
        self._first = True
        self.now: tuple[str, bool] = ("the start", True)
        """The present work, and whether it may take longer; a new object with each beat."""

    def beat(self, doing: str, *, long: bool = False) -> None:
        """Note that new work begins, or that long work has come a step further."""
        self.now = (doing, long or self._first)

    def begin(self, *, images_seen: int) -> None:
        """Note that the next step is a first one, of the launch or of a phase of a growing run."""
        self.images_seen, self._first = images_seen, True

    def stepped(self, *, images_seen: int) -> None:
        """Note that a step is done."""
        self.images_seen, self._first = images_seen, False


class Watchdog:
    """Watches this process's `Progress` while the context is open.

    Args:
        progress: the state that the main thread writes.
        rank: number of this process.
        world: number of processes.
        stall_seconds: seconds without progress that count as a stall.
        folder: folder in which stacks are written, as `rank-00001.txt`.
        store: a connection of the watchdog's own to the store of the launch; None if there is one process.
        prefix: prefix of the watchdog's keys, new in every launch.
        store_name: description of the store and its place, for the error.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        rank: int = 0,
        world: int = 1,
        stall_seconds: float,
        folder: Path,
        store: dist.Store | None = None,
        prefix: str = "",
        store_name: str = "the store of this launch",
    ) -> None:
        self.progress, self._rank, self._world = progress, rank, world
        self._stall_seconds, self._folder = stall_seconds, folder
        self._store, self._prefix, self._store_name = store, prefix, store_name
        self._tick_seconds = min(max(stall_seconds / 40, 0.05), 5.0)
        self._clock = AwakeClock(most_seconds=4 * self._tick_seconds)
        self._beat, self._beat_at = progress.now, 0.0
        self._answered_at, self._trip_seconds = 0.0, math.inf
        self._others: dict[int, tuple[Note | None, float]] = {}  # replaced as a whole: another thread reads it
        self._closing = threading.Event()
        self._alarmed = self._ending = False
        self._own = self._note(number=0)
        self._threads = [threading.Thread(target=self._watch, name="watchdog", daemon=True)]
        if store is not None:
            self._threads.append(threading.Thread(target=self._share, name="watchdog-notes", daemon=True))

    def __enter__(self) -> Watchdog:
        self._arm_backstop()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching, and tell the others to expect nothing more of this process."""
        self._closing.set()
        for thread in self._threads:
            thread.join(self._tick_seconds + 1.0)  # a store that does not answer holds its thread for ever: a daemon
        faulthandler.cancel_dump_traceback_later()

    def take_trip_seconds(self) -> float:
        """Return the seconds of a message's shortest trip to the store and back since the last call; NaN without one.

        The shortest trip is the one that other work on the machine has disturbed least.
        """
        seconds, self._trip_seconds = self._trip_seconds, math.inf
        return seconds if math.isfinite(seconds) else math.nan

    def _note(self, *, number: int) -> Note:
        """Return what the main thread is doing now, and for how long it has not given a beat."""
        if self.progress.now is not self._beat:
            self._beat, self._beat_at = self.progress.now, self._clock.seconds
        (doing, long), quiet = self._beat, self._clock.seconds - self._beat_at
        return Note(
            rank=self._rank,
            host=socket.gethostname(),
            pid=os.getpid(),
            number=number,
            doing=doing,
            images_seen=self.progress.images_seen,
            quiet_seconds=quiet,
            limit_seconds=self._stall_seconds * (LONGER if long else 1.0),
            details=self._details() if quiet > self._stall_seconds / 2 else "",
        )

    def _details(self) -> str:
        try:
            return self.progress.details()
        except Exception as error:  # the thread that ends this process must outlive it
            return f"(unknown: {error!r})"

    def _watch(self) -> None:
        while not self._closing.wait(self._tick_seconds):
            self._arm_backstop()
            self._clock.tick()

            # Judge this process and what its other thread has last read of the others.
            now, self._own = self._clock.seconds, self._note(number=self._own.number + 1)
            unseen: tuple[Note | None, float] = (None, now)
            ranks = range(self._world) if self._store else ()  # without a store, everybody judges alone
            known = {rank: self._others.get(rank, unseen) for rank in ranks if rank != self._rank}
            sentence = verdict(
                self._own,
                {rank: Seen(note=note, unchanged_seconds=now - at) for rank, (note, at) in known.items()},
                stall_seconds=self._stall_seconds,
                store_silent_seconds=now - self._answered_at if self._store else 0.0,
                store=self._store_name,
                alarmed=self._alarmed,
            )
            if sentence:
                self._end(sentence)

    def _arm_backstop(self) -> None:
        """Start the timer again; when it runs out it dumps the stacks and ends the process, without the interpreter."""
        if sys.__stderr__ is not None:
            limit = self._stall_seconds + BACKSTOP_SECONDS
            faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)

    def _share(self) -> None:
        """Write this process's notes and, while it makes no progress, read the others'.

        It runs in a thread of its own, because a store whose host is frozen never returns from a call.
        """
        last = False
        while not last:
            last = self._closing.wait(self._tick_seconds)
            try:
                self._exchange(ended=last)
            except RuntimeError as error:  # its host has ended: so has the launch, or soon will
                log.debug("no more notes to other processes: %s", error)
                return

    def _exchange(self, *, ended: bool) -> None:
        """Write the newest note and the alarm, and read those of the others once this process is late."""
        assert self._store is not None
        own = self._own
        if ended:
            own = dataclasses.replace(own, ended=True, number=own.number + 1)
        self._store.set(self._key(self._rank), own.to_bytes().decode())
        if self._ending:
            self._store.set(self._key("alarm"), "")

        # One question in passing measures the trip, and shows that the store answers.
        begun = time.perf_counter()
        alarmed = self._store.check([self._key("alarm")])
        self._trip_seconds = min(self._trip_seconds, time.perf_counter() - begun)
        self._answered_at = self._clock.seconds

        # Only a late process reads the notes: if all did always, the store would serve world * world reads a tick.
        if own.quiet_seconds < READING_FROM * self._stall_seconds:
            self._others = {}
            return
        self._others = {rank: self._read(rank) for rank in range(self._world) if rank != self._rank}
        self._alarmed = alarmed

    def _read(self, rank: int) -> tuple[Note | None, float]:
        """Return a rank's newest note, and the time at which it was first seen here."""
        assert self._store is not None
        known, at = self._others.get(rank, (None, self._clock.seconds))
        if not self._store.check([self._key(rank)]):
            return known, at
        note = Note.from_bytes(self._store.get(self._key(rank)))
        if known is not None and known.number == note.number:
            return known, at
        return note, self._clock.seconds

    def _key(self, name: int | str) -> str:
        return f"stalls/{self._prefix}/{name}"

    def _end(self, sentence: str) -> NoReturn:
        """Report the stall, give the others time for it, and end this process and its children but the upload."""
        self._ending = True
        # A file system or a terminal that hangs may be what has stalled the launch: it must not keep this process.
        report = threading.Thread(target=self._report, args=(sentence,), daemon=True)
        report.start()
        report.join(REPORT_SECONDS)
        if self._store is not None:
            time.sleep(4 * self._tick_seconds)
        end_family(self._frozen_siblings())
        os._exit(STALLED)

    def _frozen_siblings(self) -> list[psutil.Process]:
        """Return the silent processes of the same launcher, which would wait 30 s for them before it starts again."""
        silent_since = self._clock.seconds - self._stall_seconds / 2
        pids = [note.pid for note, at in self._others.values() if note and at < silent_since and not note.ended]
        siblings = psutil.Process(os.getppid()).children()
        return [process for process in siblings if process.pid in pids]

    def _report(self, sentence: str) -> None:
        """Write the sentence and the stacks to standard error, then to the run folder, which may hang."""
        text = f"error: rank {self._rank}: {sentence}\n{stacks(skip='watchdog')}"
        rest = text.encode(errors="replace")
        while rest:
            rest = rest[os.write(2, rest) :]  # not sys.stderr, whose lock a stuck thread may hold
        self._folder.mkdir(parents=True, exist_ok=True)
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with (self._folder / f"rank-{self._rank:05d}.txt").open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{when}\n{text}\n")


class AwakeClock:
    """Counts the seconds in which this process could run: one that was stopped (Ctrl-Z, a laptop's lid) did not stall.

    Args:
        most_seconds: largest time between two ticks that is counted; the rest the process was stopped.
    """

    def __init__(self, *, most_seconds: float) -> None:
        self.seconds = 0.0
        self._most_seconds, self._last = most_seconds, time.monotonic()

    def tick(self) -> None:
        """Advance the clock; one thread calls this regularly, and any may read `seconds`."""
        now = time.monotonic()
        self.seconds += min(now - self._last, self._most_seconds)
        self._last = now


def stacks(*, skip: str) -> str:
    """Return the stack of every thread, the main thread first, without threads whose names begin with `skip`."""
    frames = sys._current_frames()
    threads = sorted(threading.enumerate(), key=lambda thread: thread is not threading.main_thread())
    parts = [
        f"thread {thread.name}:\n{''.join(traceback.format_stack(frames[thread.ident]))}"
        for thread in threads
        if thread.ident in frames and not thread.name.startswith(skip)
    ]
    return "\n".join(parts)
