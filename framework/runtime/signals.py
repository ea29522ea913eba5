"""Stops processes together: a signal on any of them makes every process stop after the same step.

The flag is voted on by an all-reduce that runs beside the step: what was started after one step is read after the
next, so the vote costs no waiting and every process still reads the same answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from types import FrameType

import torch
import torch.distributed as dist

from framework.runtime.stopping import STOP_SIGNALS, end_with_launcher, handled_elsewhere

log = logging.getLogger("framework")


class StopVote:
    """A vote, once per step, on whether any process has been asked to stop.

    Args:
        world: number of processes.
        launcher: process id of the launcher, where one started this process. Its end counts as a request to stop:
            nobody would hand signals on any more, and the run would stay locked against the same command.
    """

    def __init__(self, *, world: int, launcher: int | None = None) -> None:
        self.received: signal.Signals | None = None
        self._launcher = launcher
        # Votes travel over gloo even when gradients use NCCL: a CPU flag needs no device synchronisation.
        self._group = dist.new_group(backend="gloo") if world > 1 else None
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._work: dist.Work | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopVote]:
        """Catch SIGTERM, SIGINT and SIGUSR1 inside the context; a second SIGINT interrupts at once."""
        with handled_elsewhere():
            previous = {s: signal.signal(s, self._receive) for s in STOP_SIGNALS}
            try:
                yield self
            finally:
                for s, handler in previous.items():
                    signal.signal(s, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def poll(self) -> bool:
        """Return True on all processes in the same step, or on none; every process calls it once per step."""
        # The end of the launcher counts as a signal.
        if self._launcher is not None and os.getppid() != self._launcher:
            log.warning("the launcher (process %d) has ended: saving and stopping", self._launcher)
            self._launcher, self.received = None, signal.SIGHUP
            end_with_launcher(None)  # the run saves and stops by itself from here on
        if self._group is None:
            return self.received is not None

        # Read the vote that began after the last step, then begin the next: nobody waits.
        stop = False
        if self._work is not None:
            self._work.wait()
            stop = bool(self._flag.item())
        self._flag.fill_(self.received is not None)
        self._work = dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return stop

    def close(self) -> None:
        """Wait for the vote that is still under way."""
        if self._work is not None:
            self._work.wait()
            self._work = None
