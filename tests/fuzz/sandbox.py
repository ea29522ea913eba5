"""Running cases in a child process with bounds on time and memory, one child for many cases.

A case that hangs, is killed or crashes the interpreter ends its child; the next cases run in a new one. Memory is the
growth of the peak resident size, which Linux lets a process reset; addresses are bounded too, so that nothing can fill
the machine before it is seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from framework.utils.errors import FrameworkError

MOST_SECONDS = 2.0
MOST_BYTES = 256 << 20
_HANGING_SECONDS = 6
"""Of the processor: when a child that does not come back is ended."""
_WAITING_SECONDS = 60
"""Of the clock: the same for one that waits for something; long, because other programs may have the processor."""
_ADDRESSES_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case: `named`, `accepted`, or what went wrong."""

    case: int
    kind: str
    text: str = ""
    seconds: float = 0.0
    num_bytes: int = 0

    @property
    def failed(self) -> bool:
        """No reader may do this."""
        return self.kind not in ("named", "accepted") or self.seconds > MOST_SECONDS or self.num_bytes > MOST_BYTES


def run(cases: range, one: Callable[[int], str]) -> Iterator[Outcome]:
    """The outcome of each case.

    Args:
        cases: their numbers.
        one: runs a case; returns `accepted` or what is wrong with its answer, and raises what the reader raises.
    """
    todo = list(cases)
    while todo:
        seen = 0
        for outcome in _child(todo, one):
            seen += 1
            yield outcome
        todo = todo[seen:]


def _child(cases: list[int], one: Callable[[int], str]) -> Iterator[Outcome]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as report:
            _serve(cases, one, report.write, report.flush)
        os._exit(0)
    os.close(writing)
    seen, complete = 0, False
    with os.fdopen(reading) as answers:
        for line in answers:
            if line.endswith("\n"):
                yield Outcome(**json.loads(line))
                seen += 1
    _, status = os.waitpid(pid, 0)
    complete = seen == len(cases)
    if not complete:
        sign = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status}"
        yield Outcome(case=cases[seen], kind="hung" if sign in ("SIGALRM", "SIGPROF") else "crashed", text=sign)


def _serve(cases: list[int], one: Callable[[int], str], write: Callable[[str], int], flush: Callable[[], None]) -> None:
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + _ADDRESSES_BYTES, resource.RLIM_INFINITY))
    for case in cases:
        before = _reset_peak()
        signal.alarm(_WAITING_SECONDS)
        signal.setitimer(signal.ITIMER_PROF, _HANGING_SECONDS)
        begin = time.process_time()
        kind, text = "accepted", ""
        try:
            kind = one(case)
        except FrameworkError as error:
            kind, text = "named", str(error)
            with contextlib.suppress(UnicodeEncodeError):
                text.encode()
        except BaseException as error:
            kind, text = f"raw {type(error).__name__}", "".join(traceback.format_exception(error))[-1500:]
        seconds = time.process_time() - begin
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        growth = max(0, _peak() - before)
        write(json.dumps({"case": case, "kind": kind, "text": text, "seconds": seconds, "num_bytes": growth}) + "\n")
        flush()


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The largest resident size since the last reset, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("Linux tells VmHWM")
