"""Ends a process that is told to stop before it has anything to save: during imports, rendezvous or the data survey.

The process ends at once, with the status of a stop and without a traceback. Nothing is unwound, because a process may
be killed at any point without losing more than it computed since its last checkpoint. From the first step on,
`StopVote` listens instead. This file imports nothing heavy: a recipe's first import installs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOPPED = 75
"""Exit status of a launch that was stopped before its end (EX_TEMPFAIL): the same command continues."""
STARTING_PARENT = os.getppid()
"""Id of the process that started this one, also after that has ended and another has adopted this one."""

_LOOK_SECONDS = 1.0
"""Seconds between two looks at whether the launcher still lives."""

_leave: Callable[[], None] | None = None
_launcher: int | None = None
_ending = threading.Lock()


def end_on_signals(*, leave: Callable[[], None] | None = None) -> None:
    """Let SIGTERM, SIGINT and SIGUSR1 end this process from here on; signals that are ignored or handled stay so.

    Args:
        leave: called on a signal, before the end; replaces that of an earlier call.
    """
    global _leave
    _leave = leave
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may choose what signals do
    ours = [s for s in STOP_SIGNALS if signal.getsignal(s) in (signal.SIG_DFL, signal.default_int_handler)]
    for number in ours:
        signal.signal(number, _end)
    if signal.SIGTERM in ours:
        _listen_beside_the_main_thread()


def end_with_launcher(launcher: int | None) -> None:
    """Let the end of the launcher end this process from here on, wherever a signal would end it.

    Otherwise processes whose launcher was killed while they met would wait for each other until a time-out.

    Args:
        launcher: process id of the launcher, the parent of this process; None for no launcher, or none any more.
    """
    global _launcher
    _launcher = launcher


def is_program(*, calls: str) -> bool:
    """Return whether the interpreter runs a script that uses the name `calls`: no notebook, test or other library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>":
            return "__file__" in frame.f_globals and calls in frame.f_code.co_names
        frame = frame.f_back
    return False


def tell_launcher(message: str) -> None:
    """Give torchrun and `accelerate launch` the sentence with which they end, in the format of torch's `@record`."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
        try:
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"message": {"message": message, "extraInfo": extra}}, file)
        except OSError as error:  # the exit status is still told
            print(f"the launcher cannot be told why: {error}", file=sys.stderr)


def _listen_beside_the_main_thread() -> None:
    """Hear signals while the main thread waits inside a library, for example for processes that do not come.

    Python runs handlers between two instructions of the main thread, and there is none before the library returns.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget)
    threading.Thread(target=_listen, args=(reading,), name="signals", daemon=True).start()


@contextlib.contextmanager
def handled_elsewhere() -> Iterator[None]:
    """Leave signals inside this context to the handlers of the main thread alone.

    The listener looks at the handler when it wakes up, which may be after the context has ended.
    """
    listened = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(listened, warn_on_full_buffer=False)


def _forget() -> None:
    """Undo the handlers in a forked child, whose signals must not reach its parent through the pipe that they share."""
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)


def _listen(reading: int) -> None:
    while True:
        ready, _, _ = select.select([reading], [], [], _LOOK_SECONDS)
        for number in os.read(reading, 64) if ready else b"":
            if number in STOP_SIGNALS and signal.getsignal(number) is _end:
                _end(number, None)
        orphaned = _launcher is not None and os.getppid() != _launcher
        if orphaned and signal.getsignal(signal.SIGTERM) is _end:
            _stop("stopped: the launcher has ended")


def _end(number: int, frame: FrameType | None) -> None:
    _stop(f"stopped by {signal.Signals(number).name}")


def _stop(why: str) -> None:
    """End this process at once."""
    if not _ending.acquire(blocking=False):
        return  # the other thread is about to end the process
    message = f"{why}; the same command continues"
    tell_launcher(message)
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"{message}\n".encode())  # not sys.stderr, whose lock the interrupted code may hold
    if _leave is not None:
        _leave()
    os._exit(STOPPED)
