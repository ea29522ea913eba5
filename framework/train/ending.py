"""End a process of a launch early: with which message, printed by which process, and with which exit status."""

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
"""Other processes wait so long; a launcher that sees one end stops the rest within about a tenth of a second."""
PEER_SECONDS = 3.0
"""A process that lost a peer waits longer still, so that the launcher sees the end of the failed one first."""


def end_with_error(message: str, *, alike: bool = False) -> NoReturn:
    """End with status 2 and a message.

    Args:
        message: one sentence on stderr and in the launcher's report.
        alike: whether every process of the launch ends in the same way, so that rank 0 prints for all.
    """
    if not alike or os.environ.get("RANK", "0") == "0":
        fail(message)  # before anything else: the launcher may end this process at any moment
    _let_the_first_go_first()
    tell_launcher(message)
    sys.exit(USER_ERROR)


def end_stopped(message: str = "stopped before the end of training; the same command continues") -> NoReturn:
    """End with status 75, as every process of the launch does after it has saved."""
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr, flush=True)
    tell_launcher(message)
    _let_the_first_go_first()
    sys.exit(STOPPED)


def end_without_peer(error: RuntimeError, *, rank: str) -> NoReturn:
    """End with status 1, because another process of the launch has ended; its error is the one to look at."""
    time.sleep(PEER_SECONDS)
    message = f"rank {rank}: {_without_peers(error)}"
    fail(message)
    tell_launcher(message)
    sys.exit(PEER_LOST)


def _let_the_first_go_first() -> None:
    """Let one process of a machine end first, so that the launcher's report has one entry and not one for each.

    The others end with status 0 on the launcher's SIGTERM. Where none comes, they end like the first, a little later.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        time.sleep(FIRST_SECONDS)


def _without_peers(error: RuntimeError) -> str:
    if "connectFullMesh" in str(error):  # how gloo says that the processes never met
        through = os.environ.get("GLOO_SOCKET_IFNAME", "the interface of this machine's own name")
        return (
            f"no connection to the other processes of this launch through {through}: look for a firewall, or choose "
            "another network with GLOO_SOCKET_IFNAME. `framework doctor`, started like this launch, tells which "
            "machines reach each other"
        )
    if "imed out" in str(error):
        return (
            "another process of this launch did not reach a collective in time; a watchdog's message, here or on "
            "another process, names it. --stall-seconds must be longer than any step"
        )
    return "another process of this launch ended; its error is the one to look at"


def peer_is_gone(error: RuntimeError) -> bool:
    """Return whether a collective failed because another process of the launch has ended."""
    lost = isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError)
    return lost or "gloo" in str(error) or "Connection closed by peer" in str(error)
