"""Stopping together: a signal on any process makes every process stop after the same step.

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
    """Whether any process has been asked to stop.

    Args:
        world: number of processes.
        launcher: process id of the launcher, where one started this process: when it has ended, this is a wish to
            stop, too. Nobody would hand signals on any more, and the run would stay locked against the same command.
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
        """Call once per step on every process: True on all of them in the same step, or on none."""
        if self._launcher is not None and os.getppid() != self._launcher:
            log.warning("the launcher (process %d) has ended: saving and stopping", self._launcher)
            self._launcher, self.received = None, signal.SIGHUP
            end_with_launcher(None)  # it is known: what follows is the end of a run that saves
        if self._group is None:
            return self.received is not None
        stop = False
        if self._work is not None:
            self._work.wait()
            stop = bool(self._flag.item())
        self._flag.fill_(self.received is not None)
        self._work = dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return stop

    def close(self) -> None:
        """Wait for the vote still under way."""
        if self._work is not None:
            self._work.wait()
            self._work = None
