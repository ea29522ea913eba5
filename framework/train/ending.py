"""How a process of a launch ends before its time: the sentence, who says it, and the exit status."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import NoReturn

import torch

from framework.runtime.stopping import STOPPED, tell_launcher
from framework.train.console import fail

USER_ERROR, PEER_LOST = 2, 1
FIRST_SECONDS = 2.0
"""A launcher ends its other processes as soon as it sees that one has ended: within a tenth of a second or so."""
PEER_SECONDS = 3.0
"""Longer than that: the process that failed shall be the first whose end the launcher sees."""


def end_with_error(message: str, *, alike: bool = False) -> NoReturn:
    """End with status 2 and one sentence.

    Args:
        alike: every process of the launch ends in the same way, so that rank 0 speaks for all.
    """
    if not alike or os.environ.get("RANK", "0") == "0":
        fail(message)  # first of all: the launcher may end this process in a moment
    _let_the_first_go_first()
    tell_launcher(message)
    sys.exit(USER_ERROR)


def end_stopped(message: str = "stopped before the end of training; the same command continues") -> NoReturn:
    """End with status 75: every process of the launch does, after it has saved."""
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr, flush=True)
    tell_launcher(message)
    _let_the_first_go_first()
    sys.exit(STOPPED)


def end_without_peer(error: RuntimeError, *, rank: str) -> NoReturn:
    """End with status 1: another process of the launch has ended, and its error is the one to look at."""
    time.sleep(PEER_SECONDS)
    message = f"rank {rank}: {_without_peers(error)}"
    fail(message)
    tell_launcher(message)
    sys.exit(PEER_LOST)


def _let_the_first_go_first() -> None:
    """One process of a machine ends, and the launcher ends the others: its report then has one entry, not one for each.

    So they end with status 0 on its SIGTERM. Where no launcher does that, they end as the first, a little later.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        time.sleep(FIRST_SECONDS)


def _without_peers(error: RuntimeError) -> str:
    if "connectFullMesh" in str(error):  # how gloo says that the processes never met
        through = os.environ.get("GLOO_SOCKET_IFNAME", "the interface of this machine's own name")
        return (
            f"no connection to the other processes of this launch (tried through {through}): a firewall, or the wrong "
            "network; GLOO_SOCKET_IFNAME chooses another. `framework doctor` started like this launch says who reaches "
            "whom"
        )
    if "imed out" in str(error):
        return (
            "another process of this launch did not come to a collective in time: the sentence of a watchdog, here or "
            "on another process, names it. --stall-seconds must be longer than any step"
        )
    return "another process of this launch ended; its error is the one to look at"


def peer_is_gone(error: RuntimeError) -> bool:
    """Whether a collective failed because another process of the launch has ended."""
    lost = isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError)
    return lost or "gloo" in str(error) or "Connection closed by peer" in str(error)
