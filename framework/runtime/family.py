"""Ends the processes that a training process has started, where it ends itself without unwinding."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import psutil

UPLOAD = "framework.tracking.upload"  # outlives its trainer on purpose


def end_family(others: Sequence[psutil.Process] = ()) -> None:
    """End the processes that this one has started, except for the upload, and `others`."""
    for process in [*psutil.Process().children(recursive=True), *others]:
        with contextlib.suppress(psutil.Error):
            if UPLOAD not in process.cmdline():
                process.kill()
